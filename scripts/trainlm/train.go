package main

import (
	"fmt"
	"io"
	"math"
	"math/rand"
	"sync"
	"time"

	"windlass/inference/builtin/engine"
)

// plan is everything that decides a training run; the same plan on the same
// kernel gives the same bytes.
type plan struct {
	shape    shape // vocab is the size asked for
	steps    int
	batch    int // sequences of a step
	sequence int // tokens of a sequence
	threads  int
	rate     float64
	seed     int64
	stories  int // that the vocabulary is learned from
}

func defaultPlan() plan {
	return plan{
		shape: shape{dim: 128, layers: 4, heads: 4, kvHeads: 2, ffn: 320, vocab: 768, context: 256},
		steps: 2400, batch: 8, sequence: 192, threads: 1, rate: 3e-3, seed: 1, stories: 20_000,
	}
}

const (
	// heldOutSeed and heldOut choose the sequences that perplexity is measured on.
	heldOutSeed = 999
	heldOut     = 16
	// reportEvery is how often, in steps, the loss is told.
	reportEvery = 50
	// smoothing is the weight of the past in the loss that is told.
	smoothing = 0.95
)

// trained is the product of a run.
type trained struct {
	plan       plan
	net        *network
	vocab      vocabulary
	losses     []float64 // of each step
	perplexity float64   // on held-out text
	tokens     int
	elapsed    time.Duration
}

// example is one sequence and its targets; a negative target is none.
type example struct{ tokens, targets []int }

// corpus makes sequences of stories without end.
type corpus struct {
	lex      *lexicon
	tok      *engine.Tokenizer
	sequence int
}

// next returns a sequence that begins at the begin of a story.
func (c corpus) next(r *rand.Rand) example {
	var ids []int
	for len(ids) < c.sequence+1 {
		ids = append(ids, c.tok.Encode(c.lex.story(r))...)
		ids = append(ids, c.tok.EOS)
	}
	targets := append([]int(nil), ids[1:c.sequence+1]...)
	for i := range targets {
		if targets[i] == c.tok.BOS {
			targets[i] = -1 // which story follows cannot be known
		}
	}
	return example{ids[:c.sequence], targets}
}

// train makes a model; talk gets a line now and then.
func train(p plan, talk io.Writer) (*trained, error) {
	r, lex := rand.New(rand.NewSource(p.seed)), newLexicon()
	sample := make([]string, p.stories)
	for i := range sample {
		sample[i] = lex.story(r)
	}
	out := &trained{plan: p, vocab: trainBPE(sample, p.shape.vocab)}
	tok, err := engine.NewTokenizer(out.vocab.pieces, out.vocab.scores, out.vocab.types)
	if err != nil {
		return nil, fmt.Errorf("cannot make tokenizer: %w", err)
	}
	out.plan.shape.vocab = tok.Size()
	out.net = newNetwork(out.plan.shape, p.seed)
	_, _ = fmt.Fprintf(talk, "kernel %s, %d weights, vocabulary %d\n", kernel, out.net.size(), tok.Size())
	c := corpus{lex, tok, p.sequence}
	team := newTeam(out.net, p)
	began, smooth := time.Now(), 0.0
	for step := 1; step <= p.steps; step++ {
		batch := make([]example, p.batch)
		for i := range batch {
			batch[i] = c.next(r)
		}
		loss, terms := team.run(batch)
		out.net.adamW(step, rate(step, p.steps, p.rate), 1/float32(terms))
		out.losses = append(out.losses, loss/float64(terms))
		if smooth = smoothing*smooth + (1-smoothing)*loss/float64(terms); step == 1 {
			smooth = loss / float64(terms)
		}
		out.tokens += p.batch * p.sequence
		if step%reportEvery == 0 || step == p.steps {
			_, _ = fmt.Fprintf(talk, "step %d loss %.4f, %.0f tokens/s\n", step, smooth, float64(out.tokens)/time.Since(began).Seconds())
		}
	}
	out.elapsed = time.Since(began)
	out.perplexity = team.workers[0].perplexity(c)
	return out, nil
}

// perplexity measures on text that training does not use.
func (w *worker) perplexity(c corpus) float64 {
	r := rand.New(rand.NewSource(heldOutSeed))
	var loss float64
	terms := 0
	for range heldOut {
		e := c.next(r)
		l, n := w.loss(e.tokens, e.targets)
		loss, terms = loss+l, terms+n
	}
	return math.Exp(loss / float64(terms))
}

// team shares a batch among workers. Each takes a fixed part and the parts are
// added in a fixed order, so a run is repeatable for a number of threads.
type team struct {
	net     *network
	workers []*worker
}

func newTeam(n *network, p plan) *team {
	t := &team{net: n}
	for range min(p.threads, p.batch) {
		t.workers = append(t.workers, newWorker(n, p.sequence))
	}
	return t
}

// run adds the gradients of a batch to the network's and returns the loss.
func (t *team) run(batch []example) (loss float64, terms int) {
	losses, counts := make([]float64, len(t.workers)), make([]int, len(t.workers))
	var all sync.WaitGroup
	for i, w := range t.workers {
		all.Go(func() {
			for j := i; j < len(batch); j += len(t.workers) {
				l, n := w.loss(batch[j].tokens, batch[j].targets)
				w.backward(batch[j].tokens)
				losses[i] += l
				counts[i] += n
			}
		})
	}
	all.Wait()
	for i, w := range t.workers {
		loss, terms = loss+losses[i], terms+counts[i]
		for _, p := range t.net.params {
			grad := w.grads[p]
			for j := range grad {
				p.grad[j] += grad[j]
				grad[j] = 0
			}
		}
	}
	return loss, terms
}
