package builtin_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"windlass/inference"
	"windlass/inference/builtin"
	"windlass/protocol"
)

// said is one message of the child.
type said struct {
	Type       string
	ID         string
	Name       string
	Model      string
	Percent    *float64
	Step       string
	Metadata   map[string]float64
	Throughput *protocol.Throughput
	Data       json.RawMessage
	Output     json.RawMessage
	OutputFile string
	Code       protocol.Code
	Message    string
	Details    map[string]any
	Retryable  bool
	Partial    json.RawMessage
}

// child runs Main in this process and talks to it.
type child struct {
	t    *testing.T
	in   *io.PipeWriter
	out  *bufio.Scanner
	talk bytes.Buffer
	code chan int
}

func startChild(t *testing.T, args ...string) *child {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	c := &child{t: t, in: inW, out: bufio.NewScanner(outR), code: make(chan int, 1)}
	c.out.Buffer(nil, 4<<20)
	go func() {
		c.code <- builtin.Main(args, inR, outW, &c.talk)
		_ = outW.Close()
	}()
	t.Cleanup(func() {
		_ = inW.Close()
		for c.out.Scan() { // lets the child end
			continue
		}
	})
	return c
}

func (c *child) send(v any) {
	c.t.Helper()
	e := json.NewEncoder(c.in)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) next() said {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("the child ended: %v %s", c.out.Err(), c.talk.String())
	}
	var m said
	if err := json.Unmarshal(c.out.Bytes(), &m); err != nil {
		c.t.Fatalf("%s: %v", c.out.Bytes(), err)
	}
	return m
}

func (c *child) ready() []said {
	c.t.Helper()
	var all []said
	for {
		m := c.next()
		all = append(all, m)
		if m.Type == "ready" {
			return all
		}
	}
}

// job runs one job and returns all it said, the outcome last.
func (c *child) job(input string) []said {
	c.t.Helper()
	c.send(map[string]any{"type": "job", "id": "j", "input": json.RawMessage(input), "workdir": c.t.TempDir()})
	var all []said
	for {
		m := c.next()
		if m.ID != "j" {
			c.t.Fatalf("message %+v has another id", m)
		}
		all = append(all, m)
		if m.Type == "result" || m.Type == "error" {
			return all
		}
	}
}

func last(all []said) said { return all[len(all)-1] }

type storyOutput struct {
	Text    string
	Stories []string
	Model   string
	Tokens  int
}

type documentOutput struct {
	Result        string
	Sections      []struct{ Title, Text string }
	Model         string
	Demonstration bool
	Ignored       []string
}

func decode[T any](t *testing.T, m said) T {
	t.Helper()
	var v T
	if m.Type != "result" {
		t.Fatalf("got %+v, want a result", m)
	}
	d := json.NewDecoder(bytes.NewReader(m.Output))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", m.Output, err)
	}
	return v
}

func TestStartMessages(t *testing.T) {
	types := func(all []said) (s string) {
		for _, m := range all {
			s += m.Type + m.Name + " "
		}
		return s
	}
	if got := types(startChild(t, "--handler", "echo").ready()); got != "hello ready " {
		t.Errorf("echo: %s", got)
	}
	all := startChild(t, "--handler", "story").ready()
	if got := types(all); got != "hello phasemodelLoad ready " || all[0].Model != "tiny-story" {
		t.Errorf("story: %s %+v", got, all[0])
	}
}

func TestStories(t *testing.T) {
	c := startChild(t, "--handler", "story")
	c.ready()
	const prompt = "Once upon a time, a brave fox named Priya lived by the river."
	all := c.job(`{"prompt":"` + prompt + `","count":3,"maxTokens":40}`)
	out := decode[storyOutput](t, last(all))
	if len(out.Stories) != 3 || out.Model != "tiny-story" || out.Text != strings.Join(out.Stories, "\n\n") {
		t.Fatalf("output %+v", out)
	}
	if out.Stories[0] == out.Stories[1] || out.Stories[1] == out.Stories[2] {
		t.Error("stories of one job are equal")
	}
	streamed := make([]string, 3)
	var final said
	percent := -1.0
	for _, m := range all {
		switch m.Type {
		case "chunk":
			var chunk struct {
				Story int
				Text  string
			}
			if err := json.Unmarshal(m.Data, &chunk); err != nil {
				t.Fatal(err)
			}
			streamed[chunk.Story] += chunk.Text
		case "progress":
			if m.Step != "generating_content" || m.Percent == nil || *m.Percent < percent {
				t.Errorf("progress %+v after %v", m, percent)
			}
			percent, final = *m.Percent, m
		}
	}
	for i, s := range streamed {
		if s != out.Stories[i] || !strings.HasPrefix(s, prompt) {
			t.Errorf("story %d streamed as %q, returned as %q", i, s, out.Stories[i])
		}
	}
	if percent != 100 || final.Metadata["sectionsDone"] != 3 || final.Metadata["sectionsTotal"] != 3 || final.Metadata["tokensGenerated"] != float64(out.Tokens) {
		t.Errorf("last progress %v %+v, tokens %d", percent, final, out.Tokens)
	}
	if final.Throughput == nil || final.Throughput.Value <= 0 || final.Throughput.Unit != "tokens/s" {
		t.Errorf("throughput %+v", final.Throughput)
	}
	if again := last(c.job(`{"prompt":"` + prompt + `","count":3,"maxTokens":40}`)); !bytes.Equal(again.Output, last(all).Output) {
		t.Error("the same input has another output")
	}
	warm := `{"prompt":"` + prompt + `","maxTokens":40,"temperature":0.8,"seed":%}`
	one, two := last(c.job(strings.Replace(warm, "%", "1", 1))), last(c.job(strings.Replace(warm, "%", "2", 1)))
	if bytes.Equal(one.Output, two.Output) {
		t.Error("two seeds tell the same story")
	}
	if again := last(c.job(strings.Replace(warm, "%", "1", 1))); !bytes.Equal(one.Output, again.Output) {
		t.Error("the same seed tells another story")
	}
}

// TestDocumentsOfThePublicExamples sends the inputs of seed S0 word for word.
func TestDocumentsOfThePublicExamples(t *testing.T) {
	c := startChild(t, "--handler", "document")
	c.ready()
	out := decode[documentOutput](t, last(c.job(`{
"prompt": "Generate a detailed 10-page report on climate change impacts",
"format": "pdf",
"citations": true,
"sections": ["introduction", "impacts", "solutions", "conclusion"]
}`)))
	if len(out.Sections) != 4 || out.Sections[1].Title != "impacts" || !out.Demonstration || strings.Join(out.Ignored, " ") != "citations format" {
		t.Errorf("first example: %+v", out)
	}
	if !strings.Contains(out.Result, "## Impacts") || !strings.Contains(out.Result, strings.TrimSpace(out.Sections[3].Text)) {
		t.Errorf("result %q lacks its sections", out.Result)
	}
	all := c.job(`{
"prompt": "Create a comprehensive business plan for a tech startup",
"pages": 50,
"include_financials": true,
"industry": "artificial_intelligence"
}`)
	out = decode[documentOutput](t, last(all))
	if len(out.Sections) != 50 || strings.Join(out.Ignored, " ") != "include_financials industry" {
		t.Errorf("second example: %d sections, ignored %v", len(out.Sections), out.Ignored)
	}
	seen := false
	for _, m := range all {
		seen = seen || m.Metadata["sectionsDone"] == 25 && m.Metadata["sectionsTotal"] == 50 && m.Metadata["tokensGenerated"] > 0
	}
	if !seen {
		t.Error("no progress told of half the sections")
	}
	if out = decode[documentOutput](t, last(c.job(`{"prompt":"x"}`))); len(out.Sections) != 3 || out.Sections[1].Title != "body" || out.Ignored == nil {
		t.Errorf("defaults: %+v", out)
	}
}

func TestInvalidInputs(t *testing.T) {
	story, document, echo := startChild(t, "--handler", "story"), startChild(t, "--handler", "document"), startChild(t, "--handler", "echo")
	for _, c := range []*child{story, document, echo} {
		c.ready()
	}
	for _, c := range []struct {
		child *child
		field string
		input string
	}{
		{story, "input", `"text"`},
		{story, "input", `null`},
		{story, "prompt", `{}`},
		{story, "prompt", `{"prompt":null}`},
		{story, "prompt", `{"prompt":7}`},
		{story, "prompt", `{"prompt":"  "}`},
		{story, "prompt", `{"prompt":"` + strings.Repeat("zq ", 300) + `"}`},
		{story, "count", `{"prompt":"a","count":-1}`},
		{story, "count", `{"prompt":"a","count":0}`},
		{story, "count", `{"prompt":"a","count":101}`},
		{story, "count", `{"prompt":"a","count":1.5}`},
		{story, "count", `{"prompt":"a","count":"two"}`},
		{story, "maxTokens", `{"prompt":"a","maxTokens":1e99}`},
		{story, "temperature", `{"prompt":"a","temperature":-0.1}`},
		{story, "temperature", `{"prompt":"a","temperature":[]}`},
		{story, "seed", `{"prompt":"a","seed":9007199254740993}`},
		{document, "pages", `{"prompt":"a","pages":-5}`},
		{document, "pages", `{"prompt":"a","pages":101}`},
		{document, "sections", `{"prompt":"a","sections":[]}`},
		{document, "sections", `{"prompt":"a","sections":"all"}`},
		{document, "sections", `{"prompt":"a","sections":[1]}`},
		{document, "format", `{"prompt":"a","format":3}`},
		{echo, "sleep", `{"sleep":-1}`},
		{echo, "sleep", `{"sleep":"long"}`},
		{echo, "sleep", `{"sleep":1e12}`},
		{echo, "fail", `{"fail":"yes"}`},
		{echo, "fail", `{"fail":{"code":"lower case"}}`},
	} {
		m := last(c.child.job(c.input))
		if m.Type != "error" || m.Code != protocol.CodeInvalidInput || m.Retryable || m.Details["field"] != c.field || m.Details["reason"] == "" {
			t.Errorf("%.60s: got %+v, want INVALID_INPUT about %s", c.input, m, c.field)
		}
		if _, told := m.Details["value"]; !told {
			t.Errorf("%.60s: details have no value", c.input)
		}
	}
}

func TestEcho(t *testing.T) {
	c := startChild(t, "--handler", "echo")
	c.ready()
	for _, input := range []string{`{"a":1.50,"b":"<&>","c":[null,{}]}`, `[1,2]`, `"text"`, `null`, `{"fail":false}`, `{"sleep":0.01}`} {
		if m := last(c.job(input)); m.Type != "result" || string(m.Output) != input && input != "null" {
			t.Errorf("%s came back as %+v %s", input, m, m.Output)
		}
	}
	if m := last(c.job(`{"fail":true}`)); m.Type != "error" || m.Code != protocol.CodeHandlerError || m.Retryable {
		t.Errorf("fail: %+v", m)
	}
	if m := last(c.job(`{"fail":{"code":"OUT_OF_PAPER","message":"refill","retryable":true}}`)); m.Code != "OUT_OF_PAPER" || m.Message != "refill" || !m.Retryable {
		t.Errorf("fail with details: %+v", m)
	}
}

func TestLargeInputTravelsInFiles(t *testing.T) {
	c := startChild(t, "--handler", "echo")
	c.ready()
	dir := t.TempDir()
	input := `{"big":"` + strings.Repeat("x", 3<<20) + `"}`
	if err := os.WriteFile(filepath.Join(dir, "input.json"), []byte(input), 0o600); err != nil {
		t.Fatal(err)
	}
	c.send(map[string]any{"type": "job", "id": "j", "inputFile": filepath.Join(dir, "input.json"), "workdir": dir})
	m := c.next()
	if m.Type != "result" || m.OutputFile == "" {
		t.Fatalf("got %+v", m)
	}
	if got, err := os.ReadFile(filepath.Join(dir, m.OutputFile)); err != nil || string(got) != input {
		t.Errorf("the file has %d bytes (%v), want %d", len(got), err, len(input))
	}
}

// TestCancelKeepsWhatIsComplete cancels in mid-generation; the next job runs.
func TestCancelKeepsWhatIsComplete(t *testing.T) {
	c := startChild(t, "--handler", "story")
	c.ready()
	c.send(map[string]any{"type": "job", "id": "j", "input": map[string]any{"prompt": "Mia was a shy fox.", "count": 100, "temperature": 1}})
	sent := false
	for {
		m := c.next()
		if !sent && m.Type == "progress" && m.Metadata["sectionsDone"] == 1 {
			c.send(map[string]any{"type": "cancel", "id": "j", "reason": "test"})
			sent = true
		}
		if m.Type == "result" {
			t.Fatal("the job completed")
		}
		if m.Type != "error" {
			continue
		}
		var partial storyOutput
		if err := json.Unmarshal(m.Partial, &partial); err != nil || len(partial.Stories) == 0 || m.Code != protocol.CodeCancelled {
			t.Errorf("got %+v with partial %s", m, m.Partial)
		}
		break
	}
	decode[storyOutput](t, last(c.job(`{"prompt":"Mia was a shy fox.","maxTokens":3}`)))
}

func TestEndOfInputEndsTheChild(t *testing.T) {
	for _, end := range []func(c *child){
		func(c *child) { _ = c.in.Close() },
		func(c *child) { c.send(map[string]any{"type": "shutdown"}) },
	} {
		c := startChild(t, "--handler", "echo")
		c.ready()
		c.send(map[string]any{"type": "job", "id": "j", "input": map[string]any{"sleep": 3600}})
		c.next() // its first progress
		end(c)
		for c.out.Scan() {
			continue
		}
		if code := <-c.code; code != 0 {
			t.Errorf("exit code %d: %s", code, c.talk.String())
		}
	}
}

func TestRefusedStart(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.gguf")
	if err := os.WriteFile(bad, []byte("GGUF\x03\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec inference.Spec
		want string
	}{
		{childSpec(t, "story", bad), "inside its header"},
		{childSpec(t, "story", "/nowhere.gguf"), "runtime.model"},
		{childSpec(t, "story", "relative.gguf"), "absolute"},
		{childSpec(t, "paint", ""), "story, document, echo"},
	} {
		_, err := builtin.New().Start(t.Context(), c.spec, func(inference.Event) {})
		var f *inference.Failure
		if !errors.As(err, &f) || f.Code != protocol.CodeRuntimeRefused || f.Retryable || !strings.Contains(f.Message, c.want) {
			t.Errorf("%s %q: got %v, want RUNTIME_REFUSED about %q", c.spec.Runtime.Handler, c.spec.Runtime.Model, err, c.want)
		}
	}
}
