package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"windlass/docs"
)

// description is docs/openapi.yaml with a compiled schema for each answer that
// was met.
type description struct {
	document map[string]any

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
}

const descriptionURL = "https://windlass.test/openapi.json"

// loadDescription reads the document once for all tests.
func loadDescription() (*description, error) {
	b, err := openAPIJSON(docs.OpenAPI())
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	d := &description{document: doc.(map[string]any), compiler: jsonschema.NewCompiler(), schemas: make(map[string]*jsonschema.Schema)}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	return d, d.compiler.AddResource(descriptionURL, doc)
}

var theDescription = sync.OnceValues(loadDescription) //nolint:gochecknoglobals // compiled once for the thousands of answers of these tests

// lookup returns a member of nested objects.
func lookup(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// check holds one answer against the document.
func (d *description) check(method, pattern string, status int, kind string, body []byte) error {
	responses := lookup(d.document, "paths", pattern, strings.ToLower(method), "responses")
	code := strconv.Itoa(status)
	if lookup(responses, code) == nil {
		if status < 400 || lookup(responses, "default") == nil {
			return fmt.Errorf("status %d is not described", status)
		}
		code = "default"
	}
	pointer := []string{"paths", pattern, strings.ToLower(method), "responses", code}
	response := lookup(responses, code)
	if ref, ok := lookup(response, "$ref").(string); ok {
		pointer = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
		response = lookup(d.document, pointer...)
	}
	content, _ := lookup(response, "content").(map[string]any)
	kind, _, _ = strings.Cut(kind, ";")
	if content[kind] == nil {
		if len(content) == 0 && len(body) == 0 {
			return nil
		}
		return fmt.Errorf("an answer of type %q with %d bytes is not described for status %d", kind, len(body), status)
	}
	if kind != typeJSON {
		return nil
	}
	return d.validate(append(pointer, "content", kind, "schema"), body)
}

func (d *description) validate(pointer []string, body []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	location := descriptionURL + "#"
	for _, key := range pointer {
		location += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(key)
	}
	schema := d.schemas[location]
	if schema == nil {
		if schema, err = d.compiler.Compile(location); err != nil {
			return err
		}
		d.schemas[location] = schema
	}
	return schema.Validate(value)
}

// described is a client's way to the server that holds every answer of the tests
// against the document.
type described struct {
	w    *world
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (d described) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	p, perr := parsePath([]byte(req.URL.EscapedPath()))
	if perr != nil {
		return resp, nil
	}
	route, _, _ := d.w.server.router.find(req.Method, &p)
	if route == nil || agentsOwn(route) {
		return resp, nil
	}
	kind := resp.Header.Get("Content-Type")
	var body []byte
	if strings.HasPrefix(kind, typeJSON) || resp.ContentLength == 0 {
		if body, err = io.ReadAll(resp.Body); err != nil {
			return nil, err
		}
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	doc, err := theDescription()
	if err != nil {
		return nil, err
	}
	if err := doc.check(route.method, route.pattern, resp.StatusCode, kind, body); err != nil {
		d.w.t.Errorf("%s %s answers what docs/openapi.yaml does not describe: %v\n%s", req.Method, req.URL, err, body)
	}
	return resp, nil
}

// agentsOwn reports whether docs/protocol.md describes the route.
func agentsOwn(r *route) bool { return strings.HasPrefix(r.pattern, "/agent/v1/") }

func TestDescriptionIsValid(t *testing.T) {
	b, err := openAPIJSON(docs.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestDescriptionIsTheRouteTable fails when a route is not described, or what is
// described is not served.
func TestDescriptionIsTheRouteTable(t *testing.T) {
	doc, err := theDescription()
	if err != nil {
		t.Fatal(err)
	}
	served := make(map[string]bool)
	for _, r := range newWorld(t).server.routes() {
		if agentsOwn(r) {
			continue
		}
		served[r.method+" "+r.pattern] = true
		if got := lookup(doc.document, "paths", r.pattern, strings.ToLower(r.method), "operationId"); got != r.operation {
			t.Errorf("%s %s is described as %v, served as %s", r.method, r.pattern, got, r.operation)
		}
	}
	for pattern, methods := range doc.document["paths"].(map[string]any) {
		for method := range methods.(map[string]any) {
			if method != "parameters" && !served[strings.ToUpper(method)+" "+pattern] {
				t.Errorf("%s %s is described, and not served", strings.ToUpper(method), pattern)
			}
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	w := newWorld(t)
	a := w.do("GET", "/v2/openapi.json", "", "Authorization", "")
	var doc struct{ OpenAPI string }
	if a.json(t, &doc); a.status != 200 || doc.OpenAPI != "3.1.0" {
		t.Errorf("%d %.80s", a.status, a.body)
	}
}
