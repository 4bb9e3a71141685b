package builtin

import (
	"encoding/json"
	"io"
	"sync"

	"windlass/inference"
	"windlass/protocol"
)

// request is one line from the agent (docs/command-runtime.md).
type request struct {
	Type      string          `json:"type"` // job, cancel, shutdown
	ID        string          `json:"id"`
	Input     json.RawMessage `json:"input"`
	InputFile string          `json:"inputFile"` // instead of Input when it is too large for a line
	Workdir   string          `json:"workdir"`   // the job's own directory
}

// reply is one line to the agent. Type says which fields are set.
type reply struct {
	Type       string               `json:"type"`
	ID         string               `json:"id,omitempty"`
	Slots      int                  `json:"slots,omitempty"`  // hello
	Engine     string               `json:"engine,omitempty"` // hello, ready
	Model      string               `json:"model,omitempty"`  // ready
	Phase      inference.Phase      `json:"phase,omitempty"`  // phase
	Percent    *float64             `json:"percent,omitempty"`
	Step       string               `json:"step,omitempty"`
	Metadata   any                  `json:"metadata,omitempty"`
	Throughput *protocol.Throughput `json:"throughput,omitempty"`
	ETA        *float64             `json:"eta,omitempty"` // seconds
	Chunk      any                  `json:"chunk,omitempty"`
	Line       string               `json:"line,omitempty"`  // log
	Name       string               `json:"name,omitempty"`  // metric
	Value      *float64             `json:"value,omitempty"` // metric
	Output     json.RawMessage      `json:"output,omitempty"`
	OutputFile string               `json:"outputFile,omitempty"`
	Code       protocol.Code        `json:"code,omitempty"` // error, as are the following
	Message    string               `json:"message,omitempty"`
	Details    map[string]any       `json:"details,omitempty"`
	Retryable  *bool                `json:"retryable,omitempty"`
	Partial    json.RawMessage      `json:"partial,omitempty"`
}

// channel writes replies, one line each; it is safe for concurrent use.
type channel struct {
	broken func() // called once when nobody reads any more

	mu     sync.Mutex
	out    io.Writer
	failed bool
}

func (c *channel) send(r reply) {
	line, err := json.Marshal(r)
	if err != nil { // only a result that is no JSON could; handlers marshal theirs
		line = []byte(`{"type":"error","code":"INTERNAL_ERROR","message":"a reply cannot be encoded"}`)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return
	}
	if _, err := c.out.Write(append(line, '\n')); err != nil {
		c.failed = true
		c.broken()
	}
}

// teller is what a handler tells about its job while it runs.
type teller struct {
	id      string
	channel *channel
}

// progress tells how far the job is.
func (t *teller) progress(r reply) {
	r.Type, r.ID = "progress", t.id
	t.channel.send(r)
}

// chunk streams one element of the result.
func (t *teller) chunk(v any) {
	t.channel.send(reply{Type: "chunk", ID: t.id, Chunk: v})
}

// log writes a line into the job's log; never inputs or outputs.
func (t *teller) log(line string) {
	t.channel.send(reply{Type: "log", ID: t.id, Line: line})
}

// metric sets a named number of the job.
func (t *teller) metric(name string, v float64) {
	t.channel.send(reply{Type: "metric", ID: t.id, Name: name, Value: &v})
}
