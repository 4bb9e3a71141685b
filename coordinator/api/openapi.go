package api

import (
	"encoding/json"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/valyala/fasthttp"
)

// openAPIJSON turns the YAML of docs/openapi.yaml into JSON, with its anchors
// written out.
func openAPIJSON(document []byte) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(document, &v); err != nil {
		return nil, fmt.Errorf("cannot read docs/openapi.yaml: %w", err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot write docs/openapi.yaml as JSON: %w", err)
	}
	return b, nil
}

// serveOpenAPI is GET /v2/openapi.json.
func (s *Server) serveOpenAPI(c *call) error {
	c.write(reply{status: fasthttp.StatusOK, body: s.openapi, kind: typeJSON})
	return nil
}
