package api

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"windlass/coordinator/state"
)

// maxSchemas bounds the compiled input schemas that are kept; compiling one
// again costs well under a millisecond.
const maxSchemas = 1000

// schemas compiles the input schema of each endpoint revision once.
type schemas struct {
	mu       sync.Mutex
	compiled map[schemaKey]*jsonschema.Schema
}

type schemaKey struct {
	org, endpoint string
	revision      uint64
}

func newSchemas() *schemas { return &schemas{compiled: make(map[schemaKey]*jsonschema.Schema)} }

// noLoader refuses references out of the document: a schema must not make the
// server read files or addresses.
type noLoader struct{}

// Load implements jsonschema.URLLoader.
func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("cannot load %s: references must stay within the schema", url)
}

// compileSchema reads a JSON schema, draft 2020-12 unless it names another.
func compileSchema(raw []byte) (*jsonschema.Schema, error) {
	const name = "schema.json"
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	return c.Compile(name)
}

// check validates an input against the endpoint's schema; every finding is in
// the error.
func (s *schemas) check(e *state.Endpoint, input []byte) error {
	if len(e.Doc.Input.Schema) == 0 {
		return nil
	}
	schema, err := s.get(e)
	if err != nil {
		return fmt.Errorf("cannot compile the stored input schema of %s: %w", e.ID, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(input))
	if err != nil {
		return malformed(err)
	}
	err = schema.Validate(value)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		var bad findings
		collect(invalid, value, &bad)
		return bad.err()
	}
	return err
}

func (s *schemas) get(e *state.Endpoint) (*jsonschema.Schema, error) {
	key := schemaKey{e.Org, e.ID, e.Revision}
	s.mu.Lock()
	defer s.mu.Unlock()
	if schema := s.compiled[key]; schema != nil {
		return schema, nil
	}
	schema, err := compileSchema(e.Doc.Input.Schema)
	if err != nil {
		return nil, err
	}
	if len(s.compiled) >= maxSchemas {
		clear(s.compiled)
	}
	s.compiled[key] = schema
	return schema, nil
}

// collect lists the leaves of a validation error: those say what is wrong, the
// ones above only where they were looked for.
func collect(e *jsonschema.ValidationError, value any, bad *findings) {
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			collect(cause, value, bad)
		}
		return
	}
	for _, step := range e.InstanceLocation {
		value = child(value, step)
	}
	field := strings.Join(append([]string{"input"}, e.InstanceLocation...), ".")
	if required, ok := e.ErrorKind.(*kind.Required); ok {
		for _, name := range required.Missing {
			bad.add(join(field, name), nil, "Required")
		}
		return
	}
	bad.add(field, scalar(value), e.DetailedOutput().Error.String())
}

func child(value any, step string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[step]
	case []any:
		for i := range v {
			if fmt.Sprint(i) == step {
				return v[i]
			}
		}
	}
	return nil
}

// scalar is what an error repeats of a value: not whole objects and lists.
func scalar(value any) any {
	switch value.(type) {
	case map[string]any:
		return "(an object)"
	case []any:
		return "(a list)"
	}
	return value
}
