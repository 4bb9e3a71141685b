package builtin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"windlass/inference/command"
	"windlass/protocol"
)

// OpenChannel returns the descriptor that the agent passed for messages, the
// out of Main: standard output could be used by any library that prints.
func OpenChannel(getenv func(string) string) (*os.File, error) {
	fd, err := strconv.ParseUint(getenv(command.FDVariable), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("cannot open channel: %s names no descriptor; only an agent starts this command", command.FDVariable)
	}
	return os.NewFile(uintptr(fd), "channel"), nil
}

// request is one line from the agent (docs/command-runtime.md).
type request struct {
	Type      string          `json:"type"` // job, cancel, shutdown
	ID        string          `json:"id"`
	Input     json.RawMessage `json:"input"`
	InputFile string          `json:"inputFile"` // instead of Input when it is too large for a line
	Workdir   string          `json:"workdir"`   // the job's own directory
	OutputDir string          `json:"outputDir"` // below it: every file in it is handed in
}

// reply is one line to the agent. Type says which fields are set.
type reply struct {
	Type       string               `json:"type"`
	ID         string               `json:"id,omitempty"`
	Slots      int                  `json:"slots,omitempty"`  // hello
	Engine     string               `json:"engine,omitempty"` // hello
	Model      string               `json:"model,omitempty"`  // hello
	Percent    *float64             `json:"percent,omitempty"`
	Step       string               `json:"step,omitempty"`
	Metadata   any                  `json:"metadata,omitempty"`
	Throughput *protocol.Throughput `json:"throughput,omitempty"`
	ETA        *float64             `json:"eta,omitempty"`   // seconds
	Data       any                  `json:"data,omitempty"`  // chunk
	Name       string               `json:"name,omitempty"`  // phase, metric
	Value      *float64             `json:"value,omitempty"` // metric
	Output     json.RawMessage      `json:"output,omitempty"`
	OutputFile string               `json:"outputFile,omitempty"`
	Message    string               `json:"message,omitempty"` // log, error
	Code       protocol.Code        `json:"code,omitempty"`    // error, as are the following
	Details    map[string]any       `json:"details,omitempty"`
	Retryable  *bool                `json:"retryable,omitempty"`
	Partial    json.RawMessage      `json:"partial,omitempty"`
}

// channel writes replies, one line each; it is safe for concurrent use.
type channel struct {
	broken func(error) // called once when nobody reads any more

	mu     sync.Mutex
	out    io.Writer
	failed bool
}

func (c *channel) send(r reply) {
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false) // an echo keeps its characters
	err := e.Encode(r)     // ends the line
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return
	}
	if err == nil {
		_, err = c.out.Write(line.Bytes())
	}
	if err != nil {
		c.failed = true
		c.broken(err)
	}
}

// teller is what a handler tells about its job while it runs.
type teller struct {
	id      string
	channel *channel
	output  string // the directory of the job's files
}

// progress tells how far the job is.
func (t *teller) progress(r reply) {
	r.Type, r.ID = "progress", t.id
	t.channel.send(r)
}

// chunk streams one element of the result.
func (t *teller) chunk(v any) {
	t.channel.send(reply{Type: "chunk", ID: t.id, Data: v})
}

// file hands a file in with the result.
func (t *teller) file(name string, data []byte) error {
	if t.output == "" {
		return errors.New("cannot hand in a file: the agent names no directory for it; upgrade the agent")
	}
	if err := os.WriteFile(filepath.Join(t.output, name), data, 0o600); err != nil {
		return fmt.Errorf("cannot hand in a file: %w", err)
	}
	return nil
}

// log writes a line into the job's log; it never repeats inputs or outputs.
func (t *teller) log(line string) {
	t.channel.send(reply{Type: "log", ID: t.id, Message: line})
}

// metric sets a named number of the job.
func (t *teller) metric(name string, v float64) {
	t.channel.send(reply{Type: "metric", ID: t.id, Name: name, Value: &v})
}
