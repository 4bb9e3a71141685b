package builtin

import (
	"context"
	"errors"
	"strings"
	"time"

	"windlass/inference/builtin/engine"
	"windlass/protocol"
)

const (
	// progressEvery and chunkEvery bound the messages of a job: tokens come faster
	// than anyone reads, and every message travels to the coordinator.
	progressEvery = 100 * time.Millisecond
	chunkEvery    = 20 * time.Millisecond

	// topK is how many of the likeliest tokens a choice is among.
	topK = 40
	// variation is the temperature of the texts that must differ from the likeliest.
	variation = 0.6

	stepWriting = "generating_content"
)

// counts is the metadata of a job that writes texts.
type counts struct {
	Done   int `json:"sectionsDone"`
	Total  int `json:"sectionsTotal"`
	Tokens int `json:"tokensGenerated"`
}

// writing writes the texts of one job, one after another, and tells how far it
// is. It belongs to one goroutine.
type writing struct {
	model   *engine.Model
	teller  *teller
	counts  counts
	most    int // tokens of one text
	started time.Time

	firstToken   time.Duration
	promptTokens int
	lastProgress time.Time
	lastChunk    time.Time
}

func newWriting(m *engine.Model, t *teller, total, most int) *writing {
	w := &writing{model: m, teller: t, counts: counts{Total: total}, most: most, started: time.Now()}
	w.tell(0)
	return w
}

// write continues the prompt and returns what follows it. stream gets every part
// of the text, in order; the parts together are the text.
func (w *writing) write(ctx context.Context, prompt string, o engine.Options, stream func(part string)) (string, error) {
	o.MaxTokens, o.TopK = w.most, topK
	var text, part strings.Builder
	flush := func(now time.Time) {
		if part.Len() > 0 {
			stream(part.String())
			part.Reset()
			w.lastChunk = now
		}
	}
	own := 0
	out, err := w.model.Generate(ctx, prompt, o, func(piece string, tokens int) {
		now := time.Now()
		if w.counts.Tokens == 0 && tokens > 0 {
			w.firstToken = now.Sub(w.started)
		}
		own += tokens
		w.counts.Tokens += tokens
		text.WriteString(piece)
		part.WriteString(piece)
		if own == 1 || now.Sub(w.lastChunk) >= chunkEvery {
			flush(now)
		}
		if now.Sub(w.lastProgress) >= progressEvery {
			w.tell(float64(own) / float64(max(w.most, 1)))
		}
	})
	flush(time.Now())
	w.promptTokens += out.PromptTokens
	if err != nil {
		var r *engine.Refusal
		if errors.As(err, &r) {
			return "", invalid("prompt", nil, "does not fit: "+r.Problem)
		}
		return text.String(), err
	}
	w.counts.Done++
	w.tell(0)
	return text.String(), nil
}

// tell reports the progress; part is the share of the text that is being written.
// A text that ends early makes the percentage jump: it is a share of the most
// that the job may still write.
func (w *writing) tell(part float64) {
	now := time.Now()
	share := (float64(w.counts.Done) + min(part, 1)) / float64(w.counts.Total)
	percent := share * 100
	r := reply{Percent: &percent, Step: stepWriting, Metadata: w.counts}
	if elapsed := now.Sub(w.started).Seconds(); w.counts.Tokens > 0 && elapsed > 0 {
		r.Throughput = &protocol.Throughput{Value: float64(w.counts.Tokens) / elapsed, Unit: "tokens/s"}
		if left := elapsed * (1 - share) / share; share > 0 {
			r.ETA = &left
		}
	}
	w.lastProgress = now
	w.teller.progress(r)
	w.teller.metric("tokensProcessed", float64(w.promptTokens+w.counts.Tokens))
}

// finish reports the figures that are known at the end.
func (w *writing) finish() {
	w.teller.metric("tokensProcessed", float64(w.promptTokens+w.counts.Tokens))
	w.teller.metric("itemsProcessed", float64(w.counts.Done))
	w.teller.metric("tokensGenerated", float64(w.counts.Tokens))
	w.teller.metric("promptTokens", float64(w.promptTokens))
	if w.firstToken > 0 {
		w.teller.metric("timeToFirstTokenSeconds", w.firstToken.Seconds())
	}
}
