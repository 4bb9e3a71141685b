package api

import (
	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// openaiError is an error as clients of the OpenAI API read it.
type openaiError struct {
	Error struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    string `json:"code"`
	} `json:"error"`
}

// openai is ANY /v2/{endpointId}/openai/v1/...: no runtime of this version takes
// such requests, and the answer says so in the words of that API.
func (s *Server) openai(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	var e openaiError
	e.Error.Message = "No runtime of this server speaks the OpenAI API yet; submit a job with POST /v2/ENDPOINT/run instead"
	e.Error.Type, e.Error.Code = "server_error", "not_implemented"
	body, err := protocol.EncodeJSON(&e)
	if err != nil {
		return err
	}
	c.write(reply{status: fasthttp.StatusNotImplemented, body: body, kind: typeJSON})
	return nil
}
