package engine

import (
	"math"
	"math/rand/v2"
	"slices"
)

// sampler picks tokens. The same options and the same logits give the same picks.
type sampler struct {
	options Options
	random  *rand.Rand
	best    []candidate // scratch, the likeliest first
	weights []float64   // scratch, parallel to best
}

type candidate struct {
	token int
	logit float32
}

// stream tells the generator's sequence apart from other uses of the same seed.
const stream = 0x77696e646c617373

func newSampler(o Options) *sampler {
	return &sampler{options: o, random: rand.New(rand.NewPCG(o.Seed, stream))}
}

// pick chooses the next token; temperature 0 takes the likeliest, the lowest id
// of equals.
func (s *sampler) pick(logits []float32) int {
	if s.options.Temperature <= 0 {
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		return best
	}
	s.rank(logits)
	total := s.weigh()
	x := s.random.Float64() * total
	for i, c := range s.best[:len(s.weights)] {
		if x -= s.weights[i]; x < 0 {
			return c.token
		}
	}
	return s.best[0].token
}

// rank keeps the topK likeliest tokens in order, all of them without a topK.
func (s *sampler) rank(logits []float32) {
	k := s.options.TopK
	if k <= 0 || k > len(logits) {
		k = len(logits)
	}
	s.best = s.best[:0]
	if k == len(logits) {
		for i, v := range logits {
			s.best = append(s.best, candidate{i, v})
		}
		slices.SortStableFunc(s.best, func(a, b candidate) int {
			switch {
			case a.logit > b.logit:
				return -1
			case a.logit < b.logit:
				return 1
			}
			return 0
		})
		return
	}
	for i, v := range logits {
		if len(s.best) == k && !(v > s.best[k-1].logit) {
			continue
		}
		if len(s.best) < k {
			s.best = append(s.best, candidate{})
		}
		at := len(s.best) - 1
		for at > 0 && v > s.best[at-1].logit {
			s.best[at] = s.best[at-1]
			at--
		}
		s.best[at] = candidate{i, v}
	}
}

// weigh fills weights up to the share topP and returns their sum.
func (s *sampler) weigh() float64 {
	s.weights = s.weights[:0]
	var total float64
	for _, c := range s.best {
		w := math.Exp(float64(c.logit-s.best[0].logit) / s.options.Temperature)
		s.weights = append(s.weights, w)
		total += w
	}
	if p := s.options.TopP; p > 0 && p < 1 {
		var sum float64
		for i, w := range s.weights {
			if sum += w; sum >= p*total {
				s.weights = s.weights[:i+1]
				return sum
			}
		}
	}
	return total
}
