package api

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"sync"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// enoughJobs is how many completed jobs make an estimate (DESIGN 4).
	enoughJobs = 3
	// keptEnds is how many ends of an endpoint are remembered: an endpoint whose
	// inputs change is followed within some dozens of jobs.
	keptEnds = 50
	// maxEstimates bounds the endpoints that are remembered.
	maxEstimates = 10_000
	// usual and likely are the shares of the jobs that an estimate covers: half of
	// them, and nearly all.
	usual  = 0.5
	likely = 0.9
)

// estimator knows how the newest jobs of each endpoint ended. It is derived from
// the ended jobs of the table, so every coordinator knows the same, also one
// that was just started: what is estimated was measured, here or elsewhere.
type estimator struct {
	mu   sync.Mutex
	ends map[string]*ends // "org/endpoint"
}

// sample is the end of a job whose handler had started.
type sample struct {
	index   uint64 // raft index of the end: the order of the samples
	endedMs int64
	runMs   int64 // -1: it did not complete
	cold    bool  // its runtime was started for it
	stored  int64 // bytes of its stored outputs
}

// ends are the newest samples of an endpoint, the oldest first, and what follows
// from them.
type ends struct {
	list   []sample
	runs   []int64 // of the completed ones, ascending; nil when a sample came since
	oldest int64   // endedMs
}

func newEstimator() *estimator { return &estimator{ends: make(map[string]*ends)} }

// run follows the job table until ctx ends.
func (e *estimator) run(ctx context.Context, store *state.Store) {
	for ctx.Err() == nil {
		view := store.View()
		cursor := store.Subscribe(view.Index())
		e.rebuild(ctx, view)
		for {
			changes, err := cursor.Next(ctx)
			if err != nil {
				break // the context's end, or a snapshot replaced the tables: start over
			}
			for i := range changes.List {
				e.observe(changes.List[i].Job, changes.Index)
			}
		}
	}
}

// rebuild takes the ended jobs of a view.
func (e *estimator) rebuild(ctx context.Context, view *state.View) {
	e.mu.Lock()
	clear(e.ends)
	e.mu.Unlock()
	view.Jobs(protocol.JobID{}, false, func(job *state.Job) bool {
		e.observe(job, job.Index)
		return ctx.Err() == nil
	})
}

// observe takes a job that changed in the batch with the given index; one that
// came back from the archive did not change.
func (e *estimator) observe(job *state.Job, index uint64) {
	if job == nil || job.Revised() != index || !job.Status.Terminal() || job.Outcome == nil || job.Outcome.StartedMs == 0 {
		return
	}
	out := job.Outcome
	s := sample{index: index, endedMs: out.EndedMs, runMs: -1, cold: bytes.Contains(out.Facts, []byte(`"occurred":true`))}
	if job.Status == protocol.StatusCompleted {
		s.runMs = max(out.EndedMs-out.StartedMs, 0)
	}
	out.Outputs(func(b *state.Blob) { s.stored += b.Size })
	e.mu.Lock()
	defer e.mu.Unlock()
	key := job.Org + "/" + job.Target
	of := e.ends[key]
	if of == nil {
		if len(e.ends) >= maxEstimates {
			clear(e.ends)
		}
		of = &ends{}
		e.ends[key] = of
	}
	of.add(s)
}

// add keeps the newest samples, in the order of their ends.
func (e *ends) add(s sample) {
	at, _ := slices.BinarySearchFunc(e.list, s, func(a, b sample) int { return cmp.Compare(a.index, b.index) })
	switch {
	case len(e.list) < keptEnds:
		e.list = slices.Insert(e.list, at, s)
	case at == 0:
		return
	default:
		copy(e.list[:at-1], e.list[1:at])
		e.list[at-1] = s
	}
	e.runs = nil
}

// settle brings what follows from the samples up to date.
func (e *ends) settle() {
	if e.runs != nil {
		return
	}
	e.runs, e.oldest = make([]int64, 0, len(e.list)), math.MaxInt64
	for _, s := range e.list {
		e.oldest = min(e.oldest, s.endedMs)
		if s.runMs >= 0 {
			e.runs = append(e.runs, s.runMs)
		}
	}
	slices.Sort(e.runs)
}

// quantile returns the run time in milliseconds that the given share of the
// endpoint's completed jobs did not exceed; false before enough of them completed.
func (e *estimator) quantile(org, endpoint string, share float64) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.ends[org+"/"+endpoint]
	if of == nil {
		return 0, false
	}
	of.settle()
	if len(of.runs) < enoughJobs {
		return 0, false
	}
	return of.runs[max(int(math.Ceil(share*float64(len(of.runs))))-1, 0)], true
}

// duration returns the run time in seconds that half of the endpoint's completed
// jobs did not exceed; nil before enough of them completed.
func (e *estimator) duration(org, endpoint string) *float64 {
	ms, ok := e.quantile(org, endpoint, usual)
	if !ok {
		return nil
	}
	return ptr(seconds(ms))
}

// completion is when a job that started then is expected to complete; 0 when
// nothing is known, or when it runs longer than nearly all before it did.
func (e *estimator) completion(org, endpoint string, startedMs, nowMs int64) protocol.Time {
	for _, share := range []float64{usual, likely} {
		if ms, ok := e.quantile(org, endpoint, share); ok && startedMs+ms > nowMs {
			return protocol.Time(startedMs + ms)
		}
	}
	return 0
}

// rate returns how many jobs a second ended lately, of an endpoint or, when that
// is empty, of the whole organisation; 0 when too few did.
func (e *estimator) rate(org, endpoint string, nowMs int64) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if endpoint != "" {
		return e.ends[org+"/"+endpoint].rate(nowMs)
	}
	sum := 0.0
	for key, of := range e.ends {
		if strings.HasPrefix(key, org+"/") {
			sum += of.rate(nowMs)
		}
	}
	return sum
}

func (e *ends) rate(nowMs int64) float64 {
	if e == nil || len(e.list) < enoughJobs {
		return 0
	}
	e.settle()
	// At least a millisecond, so that a burst within one has a rate.
	return float64(len(e.list)) * 1000 / float64(max(nowMs-e.oldest, 1))
}

// coldStarts returns how many of the endpoint's jobs that ended within the given
// time had to wait for a start of their runtime, and of how many.
func (e *estimator) coldStarts(org, endpoint string, sinceMs int64) (cold, all int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.ends[org+"/"+endpoint]
	if of == nil {
		return 0, 0
	}
	for _, s := range of.list {
		if s.endedMs >= sinceMs {
			all++
			if s.cold {
				cold++
			}
		}
	}
	return cold, all
}

// stored returns how many bytes half of the endpoint's completed jobs did not
// exceed with what they stored; false before enough of them completed.
func (e *estimator) stored(org, endpoint string) (int64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := e.ends[org+"/"+endpoint]
	if of == nil {
		return 0, false
	}
	var sizes []int64
	for _, s := range of.list {
		if s.runMs >= 0 {
			sizes = append(sizes, s.stored)
		}
	}
	if len(sizes) < enoughJobs {
		return 0, false
	}
	slices.Sort(sizes)
	return sizes[(len(sizes)-1)/2], true
}
