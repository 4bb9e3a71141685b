package api

import (
	"context"
	"sync"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// enoughJobs is how many completed jobs make an estimate (DESIGN 4).
	enoughJobs = 3
	// forgetting weights the newest jobs: an endpoint whose inputs change is
	// followed within some ten jobs.
	forgetting = 0.2
	// maxEstimates bounds the endpoints that are remembered.
	maxEstimates = 10_000
)

// estimator averages how long the completed jobs of each endpoint ran. It
// starts empty with the process: nothing is estimated that was not measured.
type estimator struct {
	mu   sync.Mutex
	runs map[string]*average // "org/endpoint"
}

type average struct {
	n       int
	seconds float64
}

func newEstimator() *estimator { return &estimator{runs: make(map[string]*average)} }

// run follows the job table until ctx ends.
func (e *estimator) run(ctx context.Context, store *state.Store) {
	for ctx.Err() == nil {
		cursor := store.Subscribe(store.View().Index())
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

// observe counts a job that completed in the batch with the given index.
func (e *estimator) observe(job *state.Job, index uint64) {
	if job == nil || job.Index != index || job.Status != protocol.StatusCompleted || job.Outcome == nil || job.Outcome.StartedMs == 0 {
		return
	}
	seconds := float64(job.Outcome.EndedMs-job.Outcome.StartedMs) / 1000
	if seconds < 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	key := job.Org + "/" + job.Target
	a := e.runs[key]
	if a == nil {
		if len(e.runs) >= maxEstimates {
			clear(e.runs)
		}
		a = &average{}
		e.runs[key] = a
	}
	a.n++
	// A plain mean at first, then an average that forgets.
	a.seconds += (seconds - a.seconds) * max(forgetting, 1/float64(a.n))
}

// duration returns the expected run time in seconds; nil before enough jobs of
// the endpoint completed.
func (e *estimator) duration(org, endpoint string) *float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.runs[org+"/"+endpoint]
	if a == nil || a.n < enoughJobs {
		return nil
	}
	seconds := a.seconds
	return &seconds
}
