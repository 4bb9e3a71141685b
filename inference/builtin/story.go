package builtin

import (
	"context"
	"encoding/json"
	"strings"

	"windlass/inference"
	"windlass/inference/builtin/engine"
	"windlass/protocol"
)

// Bounds of the story input.
const (
	maxStories       = 100  // minutes at the slowest rate seen, and 64 KiB of text
	defaultMaxTokens = 120  // a story has 136 tokens on average, its first sentence included
	maxMaxTokens     = 4096 // no context is longer
	maxTemperature   = 2
)

// story continues a prompt as a story. Story i is told with the seed + i. At
// temperature 0 the first story is the likeliest one; further ones would be the
// same, so they are told at the temperature variation, which the fixed seed
// keeps repeatable: equal inputs always have equal outputs.
type story struct {
	model *engine.Model
	name  string
}

type storyOutput struct {
	Text    string   `json:"text"`    // the stories, an empty line between them
	Stories []string `json:"stories"` // each with the prompt that it begins with
	Model   string   `json:"model"`
	Tokens  int      `json:"tokens"` // generated
}

// storyChunk is a stream element; the texts of one story add up to it.
type storyChunk struct {
	Story int    `json:"story"`
	Text  string `json:"text"`
}

func (h story) run(ctx context.Context, input json.RawMessage, t *teller) (json.RawMessage, error) {
	in := readFields(input)
	prompt := in.prompt()
	count := int(in.whole("count", 1, 1, maxStories))
	most := int(in.whole("maxTokens", defaultMaxTokens, 1, maxMaxTokens))
	temperature := in.number("temperature", 0, 0, maxTemperature)
	seed := in.seed()
	if in.err != nil {
		return nil, in.err
	}
	w := newWriting(h.model, t, count, most)
	out := storyOutput{Model: h.name, Stories: []string{}}
	for i := range count {
		o := engine.Options{Temperature: temperature, Seed: seed + uint64(i)}
		if temperature == 0 && i > 0 {
			o.Temperature = variation
		}
		t.chunk(storyChunk{Story: i, Text: prompt})
		text, err := w.write(ctx, prompt, o, func(part string) { t.chunk(storyChunk{Story: i, Text: part}) })
		if err != nil {
			return nil, unfinished(err, out.finish(w))
		}
		out.Stories = append(out.Stories, prompt+text)
	}
	w.finish()
	return protocol.EncodeJSON(out.finish(w))
}

func (o storyOutput) finish(w *writing) storyOutput {
	o.Text, o.Tokens = strings.Join(o.Stories, "\n\n"), w.counts.Tokens
	return o
}

// unfinished is the failure of a job that was stopped, with what is complete.
func unfinished(err error, done any) error {
	if _, ok := err.(*inference.Failure); ok {
		return err
	}
	partial, merr := protocol.EncodeJSON(done)
	if merr != nil {
		return err
	}
	return &inference.Failure{Code: protocol.CodeCancelled, Message: err.Error(), Partial: partial}
}
