package api

import (
	"bytes"
	"io"

	"github.com/valyala/fasthttp"
)

// outputMark is where a document that was encoded with a null output has it.
const outputMark = `"output":null`

// around is the reply of a document whose output is sent as it is read. Nothing in
// the text can be taken for the mark: it comes after ids, states and numbers only.
func around(text []byte, output io.ReadCloser, size int64) reply {
	at := bytes.Index(text, []byte(outputMark)) + len(outputMark) - len("null")
	head, tail := text[:at], text[at+len("null"):]
	return reply{
		status: fasthttp.StatusOK, kind: typeJSON, size: len(head) + int(size) + len(tail),
		stream: &joined{Reader: io.MultiReader(bytes.NewReader(head), output, bytes.NewReader(tail)), Closer: output},
	}
}

// joined reads several readers, of which one has to be closed.
type joined struct {
	io.Reader
	io.Closer
}
