package engine

import (
	"container/heap"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxVocab bounds the vocabulary; the largest llama one has 128,256 tokens.
	maxVocab = 1 << 18
	// space stands for a blank in SentencePiece vocabularies.
	space = "\u2581"
)

// Token types of a GGUF vocabulary.
const (
	tokenNormal      = 1
	tokenUserDefined = 4
	tokenByte        = 6
)

// Tokenizer is the SentencePiece method of llama models: pairs of neighbours
// merge greedily by score, and what is no token becomes byte tokens. It is
// immutable.
type Tokenizer struct {
	BOS, EOS int

	pieces   []string       // text of each token, empty for control tokens
	scores   []float32      // of each token
	ids      map[string]int // tokens that merging may make
	bytes    [256]int       // the byte tokens
	addBOS   bool
	addSpace bool
	longest  int // bytes of the longest piece
}

// tokenizer reads the vocabulary.
func (f *File) tokenizer() (*Tokenizer, error) {
	kind, _, err := f.text("tokenizer.ggml.model")
	if err != nil {
		return nil, err
	}
	if kind != "llama" {
		return nil, refuse(ReasonTokenizer, "the file has the tokenizer %q", clip(kind))
	}
	tokens, err := f.array("tokenizer.ggml.tokens", kindString, maxVocab)
	if err != nil {
		return nil, err
	}
	scores, err := f.array("tokenizer.ggml.scores", kindFloat32, maxVocab)
	if err != nil {
		return nil, err
	}
	types, err := f.array("tokenizer.ggml.token_type", kindInt32, maxVocab)
	if err != nil {
		return nil, err
	}
	if tokens.count == 0 || scores.count != tokens.count || types.count != tokens.count {
		return nil, refuse(ReasonTokenizer, "the vocabulary has %d tokens, %d scores and %d types", tokens.count, scores.count, types.count)
	}
	t, err := NewTokenizer(tokens.strings(), scores.float32s(), types.int32s())
	if err != nil {
		return nil, err
	}
	if t.BOS, err = f.index("tokenizer.ggml.bos_token_id", 1, t.Size()); err != nil {
		return nil, err
	}
	if t.EOS, err = f.index("tokenizer.ggml.eos_token_id", 2, t.Size()); err != nil {
		return nil, err
	}
	if t.addBOS, err = f.flag("tokenizer.ggml.add_bos_token", true); err != nil {
		return nil, err
	}
	t.addSpace, err = f.flag("tokenizer.ggml.add_space_prefix", true)
	return t, err
}

// NewTokenizer makes a tokenizer of a vocabulary as GGUF stores it: the three
// slices have one element for each token. BOS is 1 and EOS is 2, as usual.
func NewTokenizer(pieces []string, scores []float32, types []int32) (*Tokenizer, error) {
	t := &Tokenizer{BOS: 1, EOS: 2, scores: scores, ids: make(map[string]int, len(pieces)), addBOS: true, addSpace: true}
	for i := range t.bytes {
		t.bytes[i] = -1
	}
	for id, piece := range pieces {
		text := ""
		switch types[id] {
		case tokenNormal, tokenUserDefined:
			if _, dup := t.ids[piece]; !dup {
				t.ids[piece] = id
			}
			text = strings.ReplaceAll(piece, space, " ")
			t.longest = max(t.longest, len(piece))
		case tokenByte:
			b, ok := byteToken(piece)
			if !ok {
				return nil, refuse(ReasonTokenizer, "the byte token %q is not written as <0x41>", clip(piece))
			}
			t.bytes[b] = id
			text = string([]byte{b})
		}
		t.pieces = append(t.pieces, text)
	}
	for b, id := range t.bytes {
		if id < 0 {
			return nil, refuse(ReasonTokenizer, "the vocabulary has no token for the byte %d", b)
		}
	}
	return t, nil
}

// byteToken reads "<0x41>".
func byteToken(piece string) (byte, bool) {
	var b byte
	n, err := fmt.Sscanf(piece, "<0x%02X>", &b)
	return b, n == 1 && err == nil && len(piece) == len("<0x41>")
}

// Size is the number of tokens.
func (t *Tokenizer) Size() int { return len(t.pieces) }

// Piece returns the text of a token: a part of a character when it is a byte
// token, and nothing when it is a control token.
func (t *Tokenizer) Piece(id int) string { return t.pieces[id] }

// Decode returns the text of tokens that Encode made. U+2581 comes back as a
// blank, because the vocabulary cannot tell the two apart.
func (t *Tokenizer) Decode(ids []int) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.pieces[id])
	}
	if t.addSpace {
		return strings.TrimPrefix(b.String(), " ")
	}
	return b.String()
}

// Encode returns the tokens of a text that begins a sequence. Bytes that are no
// UTF-8 are kept. Control tokens written in the text stay plain text.
func (t *Tokenizer) Encode(text string) []int {
	var ids []int
	if t.addBOS {
		ids = append(ids, t.BOS)
	}
	if text == "" {
		return ids
	}
	if t.addSpace {
		text = " " + text
	}
	m := newMerger(t, strings.ReplaceAll(text, " ", space))
	m.run()
	for i := 0; i >= 0; i = m.parts[i].next {
		part := m.parts[i].text
		if id, ok := t.ids[part]; ok {
			ids = append(ids, id)
			continue
		}
		for _, b := range []byte(part) {
			ids = append(ids, t.bytes[b])
		}
	}
	return ids
}

// merger is a linked list of parts, and a heap of the pairs that may merge.
type merger struct {
	tokenizer *Tokenizer
	parts     []part
	pairs     pairHeap
}

// part is one element of the list; its text is empty once it was merged away.
type part struct {
	text       string
	prev, next int // -1 at the ends
}

func newMerger(t *Tokenizer, text string) *merger {
	m := &merger{tokenizer: t}
	for len(text) > 0 {
		_, size := utf8.DecodeRuneInString(text)
		n := len(m.parts)
		m.parts = append(m.parts, part{text: text[:size], prev: n - 1, next: n + 1})
		text = text[size:]
	}
	m.parts[len(m.parts)-1].next = -1
	return m
}

func (m *merger) run() {
	for i := 1; i < len(m.parts); i++ {
		m.offer(i-1, i)
	}
	for m.pairs.Len() > 0 {
		p := heap.Pop(&m.pairs).(pair)
		left, right := &m.parts[p.left], &m.parts[p.right]
		// A pair is stale when one of its parts grew or vanished since.
		if left.text == "" || right.text == "" || len(left.text)+len(right.text) != p.size {
			continue
		}
		left.text += right.text
		right.text = ""
		left.next = right.next
		if right.next >= 0 {
			m.parts[right.next].prev = p.left
		}
		m.offer(left.prev, p.left)
		m.offer(p.left, left.next)
	}
}

func (m *merger) offer(left, right int) {
	if left < 0 || right < 0 {
		return
	}
	text := m.parts[left].text + m.parts[right].text
	if id, ok := m.tokenizer.ids[text]; ok {
		heap.Push(&m.pairs, pair{left: left, right: right, size: len(text), score: m.tokenizer.scores[id]})
	}
}

type pair struct {
	left, right int
	size        int // bytes of both, to tell a stale pair
	score       float32
}

// pairHeap orders by score, then from the left.
type pairHeap []pair

func (h pairHeap) Len() int { return len(h) }
func (h pairHeap) Less(i, j int) bool {
	return h[i].score > h[j].score || h[i].score == h[j].score && h[i].left < h[j].left
}
func (h pairHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pairHeap) Push(x any)   { *h = append(*h, x.(pair)) }
func (h *pairHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
