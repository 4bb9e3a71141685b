package engine_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"windlass/inference/builtin/engine"
)

func TestTokenizerRoundTrip(t *testing.T) {
	m := loadModel(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, text := range []string{
		"Once upon a time, there was a brave robot named Zed.",
		" leading and  double blanks ", "日本語 🎉 naïve", "\x00\xff\xfe broken \xc3", string(every), "<s></s><unk><0x41>", "\n\t",
	} {
		ids := m.Tokenizer.Encode(text)
		if ids[0] != m.Tokenizer.BOS {
			t.Errorf("%q does not begin with BOS", text)
		}
		if slices.Contains(ids[1:], m.Tokenizer.BOS) || slices.Contains(ids, m.Tokenizer.EOS) {
			t.Errorf("%q: text became a control token", text)
		}
		if got := m.Tokenizer.Decode(ids); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
	}
}

func TestEveryByteRoundTrips(t *testing.T) {
	m := loadModel(t)
	for i := range 256 {
		text := string([]byte{byte(i)})
		if got := m.Tokenizer.Decode(m.Tokenizer.Encode(text)); got != text {
			t.Errorf("byte %d came back as %q", i, got)
		}
	}
}

// TestMergeOrder checks the order of merges by hand: the best score first, then
// from the left.
func TestMergeOrder(t *testing.T) {
	pieces, scores, types := vocabulary("a", "b", "c", "ab", "bc", "abc", "\u2581")
	tok, err := engine.NewTokenizer(pieces, scores, types)
	if err != nil {
		t.Fatal(err)
	}
	id := func(piece string) int { return slices.Index(pieces, piece) }
	for text, want := range map[string][]int{
		"abc":  {1, id("\u2581"), id("abc")},                  // ab, then abc
		"bcab": {1, id("\u2581"), id("bc"), id("ab")},         // no token spans them
		"bca":  {1, id("\u2581"), id("bc"), id("a")},          //
		"az":   {1, id("\u2581"), id("a"), id("<0x7A>")},      // byte fallback
		"é":    {1, id("\u2581"), id("<0xC3>"), id("<0xA9>")}, // two bytes
		"":     {1},
	} {
		if got := tok.Encode(text); !slices.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	m := loadModel(f)
	f.Add("Once upon a time")
	f.Add("\xff\x00 é▁")
	f.Fuzz(func(t *testing.T, text string) {
		got := m.Tokenizer.Decode(m.Tokenizer.Encode(text))
		// U+2581 is the vocabulary's own blank; a leading one is taken for the prefix.
		if want := strings.ReplaceAll(text, "\u2581", " "); got != want {
			t.Errorf("%q came back as %q (valid: %t)", text, got, utf8.ValidString(text))
		}
	})
}
