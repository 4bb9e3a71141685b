package builtin_test

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"windlass/inference/builtin"
)

// TestSampleSchemas compiles the schemas and tries inputs against them.
func TestSampleSchemas(t *testing.T) {
	good := map[string][]string{
		builtin.EndpointStory: {`{"prompt":"a"}`, `{"prompt":"a","count":20,"maxTokens":60,"temperature":0.5,"seed":3}`},
		builtin.EndpointDocument: {
			`{"prompt":"Generate","format":"pdf","citations":true,"sections":["introduction","impacts"]}`,
			`{"prompt":"Create","pages":50,"include_financials":true,"industry":"artificial_intelligence"}`,
		},
		builtin.EndpointImages: {
			`{"images":["https://example.com/image1.jpg","https://example.com/image2.jpg"],"operations":["resize","enhance","watermark"],"output_format":"webp"}`,
		},
		builtin.EndpointEcho: {`{}`, `{"x":1,"sleep":0.5,"fail":true}`, `{"fail":{"code":"X","message":"y","retryable":true}}`},
	}
	bad := map[string][]string{
		builtin.EndpointStory:    {`{}`, `{"prompt":1}`, `{"prompt":"a","count":-1}`},
		builtin.EndpointDocument: {`{}`, `{"prompt":"a","pages":-5}`, `{"prompt":"a","sections":[]}`},
		builtin.EndpointImages:   {`{}`, `{"images":[]}`, `{"images":["a"],"operations":["rotate"]}`},
		builtin.EndpointEcho:     {`{"sleep":-1}`, `{"fail":"yes"}`},
	}
	endpoints := builtin.SampleEndpoints()
	if len(endpoints) != len(good) {
		t.Fatalf("%d endpoints", len(endpoints))
	}
	for _, e := range endpoints {
		if e.Runtime.Kind != builtin.Kind || !e.Resources.CPU || e.Concurrency < 1 || e.Price.GPUSecond != 0 {
			t.Errorf("%s: %+v", e.ID, e)
		}
		schema := compile(t, e.Input.Schema)
		for _, input := range good[e.ID] {
			if err := schema.Validate(parse(t, input)); err != nil {
				t.Errorf("%s refuses %s: %v", e.ID, input, err)
			}
		}
		for _, input := range bad[e.ID] {
			if schema.Validate(parse(t, input)) == nil {
				t.Errorf("%s accepts %s", e.ID, input)
			}
		}
	}
}

func parse(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func compile(t *testing.T, schema []byte) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", parse(t, string(schema))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
