package engine

import (
	"context"
	"strings"
	"unicode/utf8"
)

// Options steer one generation.
type Options struct {
	MaxTokens   int     // the most tokens to generate
	Temperature float64 // 0 always takes the likeliest token
	TopK        int     // choose among the k likeliest; 0: all
	TopP        float64 // choose among the likeliest that make up this share; 0 or 1: all
	Seed        uint64  // of the choice; has no effect at temperature 0
}

// Finish is why a generation ended.
type Finish string

// The ends of a generation.
const (
	FinishStop   Finish = "stop"   // the model ended the text
	FinishLength Finish = "length" // MaxTokens or the context is used up
)

// Outcome is what a generation took.
type Outcome struct {
	PromptTokens int
	Tokens       int // generated
	Finish       Finish
}

// Generate continues the prompt. It calls emit once for each generated token
// with the text that became complete by it: a character that spans tokens comes
// with its last one, so the text may be empty, and it is always valid UTF-8.
// What is left at the end comes in one more call with tokens 0. A prompt that
// does not fit into the context is a *Refusal. The context is checked at every
// token; its cause is returned, with what was done so far.
func (m *Model) Generate(ctx context.Context, prompt string, o Options, emit func(text string, tokens int)) (Outcome, error) {
	ids, err := m.EncodePrompt(prompt)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{PromptTokens: len(ids)}
	// The last token is told but not fed, so it needs no position.
	s := m.newSession(len(ids) + min(max(o.MaxTokens, 1), m.Config.Context) - 1)
	pick := newSampler(o)
	var logits []float32
	for _, id := range ids {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		logits = s.step(id)
	}
	var hold holder
	for out.Finish = FinishLength; out.Tokens < o.MaxTokens; {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		id := pick.pick(logits)
		if id == m.Tokenizer.EOS {
			out.Finish = FinishStop
			break
		}
		out.Tokens++
		emit(hold.add(m.Tokenizer.Piece(id)), 1)
		if s.pos >= s.limit {
			break
		}
		logits = s.step(id)
	}
	if rest := hold.rest(); rest != "" {
		emit(rest, 0)
	}
	return out, nil
}

// EncodePrompt returns the prompt's tokens, or a *Refusal when they leave no
// room in the context for a single new one.
func (m *Model) EncodePrompt(prompt string) ([]int, error) {
	// No token is longer than the longest piece: a text that cannot fit is refused
	// before the work of cutting it.
	if least := len(prompt) / max(m.Tokenizer.longest, 1); least >= m.Config.Context {
		return nil, refuse(ReasonContext, "it has at least %d tokens, and the context is %d", least, m.Config.Context)
	}
	ids := m.Tokenizer.Encode(prompt)
	if len(ids) >= m.Config.Context {
		return nil, refuse(ReasonContext, "it has %d tokens, and the context is %d with the text that follows", len(ids), m.Config.Context)
	}
	if len(ids) == 0 {
		return nil, refuse(ReasonContext, "it has no tokens")
	}
	return ids, nil
}

// holder keeps back the bytes of a character that is not complete.
type holder struct {
	kept []byte
}

// add returns the text that is complete with these bytes. Bytes that can never
// become a character are replaced by U+FFFD.
func (h *holder) add(piece string) string {
	h.kept = append(h.kept, piece...)
	end := len(h.kept)
	// A character has at most 4 bytes, so at most 3 can wait for more.
	for back := 1; back < utf8.UTFMax && back <= len(h.kept); back++ {
		if at := len(h.kept) - back; utf8.RuneStart(h.kept[at]) {
			if !utf8.FullRune(h.kept[at:]) {
				end = at
			}
			break
		}
	}
	text := strings.ToValidUTF8(string(h.kept[:end]), string(utf8.RuneError))
	h.kept = append(h.kept[:0], h.kept[end:]...)
	return text
}

// rest returns what will never be completed.
func (h *holder) rest() string {
	text := strings.ToValidUTF8(string(h.kept), string(utf8.RuneError))
	h.kept = nil
	return text
}

// Score feeds tokens and calls next with the logits after each of them, valid
// during the call. Tokens beyond the context or outside of the vocabulary are
// refused.
func (m *Model) Score(tokens []int, next func(i int, logits []float32)) error {
	if len(tokens) > m.Config.Context {
		return refuse(ReasonContext, "it has %d tokens, and the context is %d", len(tokens), m.Config.Context)
	}
	s := m.newSession(len(tokens))
	for i, id := range tokens {
		if id < 0 || id >= m.Config.Vocab {
			return refuse(ReasonTokenizer, "the token %d is not in the vocabulary of %d", id, m.Config.Vocab)
		}
		next(i, s.step(id))
	}
	return nil
}
