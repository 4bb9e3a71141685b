package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// blank stands for a space before a word, as in SentencePiece.
const blank = "\u2581"

// controlTokens are <unk>, <s> and </s>; byteTokens follow them.
const (
	controlTokens = 3
	byteTokens    = 256
)

// vocabulary is what the tokenizer of a model file is made of; see
// engine.NewTokenizer.
type vocabulary struct {
	pieces []string
	scores []float32
	types  []int32
}

// word is a distinct word of the text, cut as the merges so far allow.
type word struct {
	parts []string
	count int
}

// trainBPE learns a vocabulary of about size pieces by byte pair encoding: the
// most frequent pair of neighbours becomes a piece, again and again. Ties are
// broken by the alphabet, so the same text gives the same pieces.
func trainBPE(text []string, size int) vocabulary {
	words, chars := countWords(text)
	var merges []string
	have := map[string]bool{}
	for controlTokens+byteTokens+len(chars)+len(merges) < size {
		best, found := bestPair(words)
		if !found {
			break
		}
		merged := best[0] + best[1]
		if !have[merged] {
			have[merged] = true
			merges = append(merges, merged)
		}
		for i := range words {
			words[i].parts = merge(words[i].parts, best, merged)
		}
	}
	v := vocabulary{pieces: []string{"<unk>", "<s>", "</s>"}, types: []int32{2, 3, 3}}
	for b := range byteTokens {
		v.pieces, v.types = append(v.pieces, fmt.Sprintf("<0x%02X>", b)), append(v.types, 6)
	}
	v.scores = make([]float32, len(v.pieces))
	for i, p := range append(merges, chars...) {
		v.pieces, v.scores, v.types = append(v.pieces, p), append(v.scores, -float32(i)), append(v.types, 1)
	}
	return v
}

func countWords(text []string) (words []word, chars []string) {
	count := map[string]int{}
	for _, t := range text {
		for w := range strings.FieldsSeq(t) {
			count[w]++
		}
	}
	seen := map[string]bool{}
	for _, w := range slices.Sorted(maps.Keys(count)) {
		var parts []string
		for _, r := range blank + w {
			parts = append(parts, string(r))
			seen[string(r)] = true
		}
		words = append(words, word{parts, count[w]})
	}
	return words, slices.Sorted(maps.Keys(seen))
}

func bestPair(words []word) (best [2]string, found bool) {
	pairs := map[[2]string]int{}
	for _, w := range words {
		for i := 1; i < len(w.parts); i++ {
			pairs[[2]string{w.parts[i-1], w.parts[i]}] += w.count
		}
	}
	most := 0
	for pair, n := range pairs {
		if n > most || n == most && (pair[0] < best[0] || pair[0] == best[0] && pair[1] < best[1]) {
			best, most = pair, n
		}
	}
	return best, most > 0
}

func merge(parts []string, pair [2]string, merged string) []string {
	var out []string
	for i := 0; i < len(parts); i++ {
		if i+1 < len(parts) && parts[i] == pair[0] && parts[i+1] == pair[1] {
			out = append(out, merged)
			i++
			continue
		}
		out = append(out, parts[i])
	}
	return out
}
