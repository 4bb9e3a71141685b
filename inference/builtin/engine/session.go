package engine

import "math"

// session is one text in the making: the keys and values of the positions so
// far, and scratch space. It belongs to one goroutine.
type session struct {
	model *Model
	limit int // positions that the cache has room for
	pos   int

	keys, values                   [][]float32 // per layer, [position][KV]
	x, norm, query, attn, gate, up []float32
	scores, logits                 []float32
	scale                          float32 // 1/sqrt(head)
	group, head, kv, half          int
}

// newSession makes room for limit positions, at most the context.
func (m *Model) newSession(limit int) *session {
	c := m.Config
	s := &session{
		model: m, limit: min(limit, c.Context),
		x: make([]float32, c.Dim), norm: make([]float32, c.Dim), query: make([]float32, c.Dim), attn: make([]float32, c.Dim),
		gate: make([]float32, c.FFN), up: make([]float32, c.FFN), logits: make([]float32, c.Vocab),
		scale: float32(1 / math.Sqrt(float64(c.Head()))),
		group: c.Heads / c.KVHeads, head: c.Head(), kv: c.KV(), half: c.Head() / 2,
	}
	s.scores = make([]float32, s.limit)
	for range m.layers {
		s.keys = append(s.keys, make([]float32, s.limit*s.kv))
		s.values = append(s.values, make([]float32, s.limit*s.kv))
	}
	return s
}

// step feeds one token and returns the logits of the next one, valid until the
// next step. The caller keeps within limit.
func (s *session) step(token int) []float32 {
	m := s.model
	c := m.Config
	copy(s.x, m.embedding[token*c.Dim:][:c.Dim])
	for i := range m.layers {
		l := &m.layers[i]
		normalize(s.norm, s.x, l.attnNorm, c.Epsilon)
		s.attend(l, s.keys[i], s.values[i])
		multiplyAdd(s.x, l.attnOut, s.attn)
		normalize(s.norm, s.x, l.ffnNorm, c.Epsilon)
		multiply(s.gate, l.gate, s.norm)
		multiply(s.up, l.up, s.norm)
		for j, g := range s.gate {
			s.gate[j] = g / (1 + float32(math.Exp(float64(-g)))) * s.up[j]
		}
		multiplyAdd(s.x, l.down, s.gate)
	}
	normalize(s.norm, s.x, m.finalNorm, c.Epsilon)
	multiply(s.logits, m.output, s.norm)
	s.pos++
	return s.logits
}

// attend computes grouped-query attention of the current position over all so far.
//
//go:norace
func (s *session) attend(l *layer, keys, values []float32) {
	key, value := keys[s.pos*s.kv:][:s.kv], values[s.pos*s.kv:][:s.kv]
	multiply(s.query, l.query, s.norm)
	multiply(key, l.key, s.norm)
	multiply(value, l.value, s.norm)
	s.rotate(s.query)
	s.rotate(key)
	for h := range s.model.Config.Heads {
		query, out := s.query[h*s.head:][:s.head], s.attn[h*s.head:][:s.head]
		shared := h / s.group * s.head
		scores := s.scores[:s.pos+1]
		for t := range scores {
			scores[t] = dot(query, keys[t*s.kv+shared:][:s.head]) * s.scale
		}
		softmax(scores)
		clear(out)
		for t, weight := range scores {
			for j, v := range values[t*s.kv+shared:][:s.head] {
				out[j] += float32(weight * v)
			}
		}
	}
}

// rotate applies the rotary encoding to adjacent pairs of every head.
func (s *session) rotate(v []float32) {
	cos, sin := s.model.cos[s.pos*s.half:][:s.half], s.model.sin[s.pos*s.half:][:s.half]
	for start := 0; start < len(v); start += s.head {
		head := v[start:][:s.head]
		for i := range s.half {
			a, b := head[2*i], head[2*i+1]
			head[2*i] = float32(a*cos[i]) - float32(b*sin[i])
			head[2*i+1] = float32(a*sin[i]) + float32(b*cos[i])
		}
	}
}
