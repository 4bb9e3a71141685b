package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"windlass/inference/builtin/engine"
	"windlass/protocol"
)

// Bounds of the document input.
const (
	maxPages      = 100
	maxTitle      = 200 // bytes of a section's title that are told to the model
	sectionTokens = defaultMaxTokens
)

func defaultSections() []string { return []string{"introduction", "body", "conclusion"} }

// document writes one text for each section. Its model knows stories and nothing
// else, so the output says that it is a demonstration. It takes any input of the
// run-async page of the API: what it cannot honour is listed, not refused.
type document struct {
	model *engine.Model
	name  string
}

type documentOutput struct {
	Result        string    `json:"result"` // the whole document as Markdown
	Sections      []section `json:"sections"`
	Model         string    `json:"model"`
	Demonstration bool      `json:"demonstration"` // always true
	Ignored       []string  `json:"ignored"`       // inputs without effect
}

type section struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

// sectionChunk is a stream element; the texts of one section add up to it.
type sectionChunk struct {
	Section int    `json:"section"`
	Title   string `json:"title"`
	Text    string `json:"text"`
}

func (h document) run(ctx context.Context, input json.RawMessage, t *teller) (json.RawMessage, error) {
	in := readFields(input)
	prompt := in.prompt()
	titles := in.titles()
	format := in.text("format")
	seed := in.seed()
	if in.err != nil {
		return nil, in.err
	}
	out := documentOutput{Model: h.name, Demonstration: true, Sections: []section{}, Ignored: in.unknown()}
	if format != "" && format != "markdown" && format != "text" {
		out.Ignored = append(out.Ignored, "format")
		slices.Sort(out.Ignored)
	}
	if len(out.Ignored) > 0 {
		t.log(fmt.Sprintf("%d inputs have no effect on this demonstration; the output lists them", len(out.Ignored)))
	}
	w := newWriting(h.model, t, len(titles), sectionTokens)
	for i, title := range titles {
		stream := func(part string) { t.chunk(sectionChunk{Section: i, Title: title, Text: part}) }
		text, err := w.write(ctx, opening(prompt, title), engine.Options{Temperature: variation, Seed: seed + uint64(i)}, stream)
		if err != nil {
			return nil, unfinished(err, out.finish(prompt))
		}
		out.Sections = append(out.Sections, section{Title: title, Text: text})
	}
	w.finish()
	return protocol.EncodeJSON(out.finish(prompt))
}

// titles names the sections. With pages there are that many, and never fewer
// than the sections asked for.
func (f *fields) titles() []string {
	_, asked := f.raw["sections"]
	titles := f.texts("sections", defaultSections(), maxPages)
	pages := int(f.whole("pages", 0, 1, maxPages))
	if pages == 0 {
		return titles
	}
	if !asked {
		titles = nil
	}
	titles = slices.Clone(titles)
	for len(titles) < pages {
		titles = append(titles, fmt.Sprintf("page %d", len(titles)+1))
	}
	return titles
}

// opening is what the model continues for one section.
func opening(prompt, title string) string {
	if len(title) > maxTitle {
		title = strings.ToValidUTF8(title[:maxTitle], "")
	}
	if last, _ := utf8.DecodeLastRuneInString(prompt); !unicode.IsPunct(last) {
		prompt += "."
	}
	return prompt + " " + capital(title) + "."
}

func capital(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}

func (o documentOutput) finish(prompt string) documentOutput {
	var b strings.Builder
	b.WriteString("# " + prompt + "\n")
	for _, s := range o.Sections {
		b.WriteString("\n## " + capital(s.Title) + "\n\n" + strings.TrimSpace(s.Text) + "\n")
	}
	o.Result = b.String()
	return o
}
