package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"windlass/agent/shim"
	"windlass/inference"
)

// adoptLimit is how long a shim that is alive may take to answer at the start.
const adoptLimit = 10 * time.Second

// adopt finds what outlived the last life of this agent: running shims, then
// results in the journal. It must be done before registration, because what is
// not in the held set is released. It returns how many attempts it found.
func (a *Agent) adopt(ctx context.Context) (int, error) {
	entries, err := os.ReadDir(a.dirs.runtimes)
	if err != nil {
		return 0, fmt.Errorf("cannot read runtime directories: %w", err)
	}
	keep, n := make(map[string]bool), 0
	for _, e := range entries {
		dir := filepath.Join(a.dirs.runtimes, e.Name())
		runs, err := a.adoptShim(ctx, dir)
		if ctx.Err() != nil {
			return n, fmt.Errorf("cannot adopt runtimes: %w", context.Cause(ctx))
		}
		if err != nil {
			a.log.Info().Err(err).Str("runtime", e.Name()).Msg("a runtime of the last life is cleared away")
			if err := a.opener.Clear(dir); err != nil {
				a.log.Error().Err(err).Msg("a runtime left something behind")
			}
			continue
		}
		keep[e.Name()] = true
		n += runs
	}
	if left := a.opener.Strays(keep); left > 0 {
		a.log.Error().Int("processes", left).Msg("stray processes cannot be killed")
	}
	keys, err := a.journal.load(time.Now())
	if err != nil {
		return n, err
	}
	for _, k := range keys {
		at := a.newAttempt(k)
		at.phase = finished
		if a.table.add(at) { // else its shim is about to tell of it
			n++
			a.work.Go(func() { at.handIn(k) })
		}
	}
	return n, nil
}

// adoptShim takes one runtime over with all its runs.
func (a *Agent) adoptShim(ctx context.Context, dir string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	r, err := a.opener.Adopt(ctx, dir)
	if err != nil {
		return 0, err
	}
	spec, runs := r.Spec(), r.Runs()
	leases, err := a.pool.Adopt(inference.Key{Endpoint: spec.Endpoint, Revision: spec.Revision}, r, len(runs))
	if err != nil {
		return 0, err
	}
	a.keep(r)
	for i, run := range runs {
		at := a.newAttempt(run.Key())
		at.phase, at.run = running, run
		a.log.Info().Stringer("job", at.id.Job).Uint32("attempt", at.id.Attempt).Str("endpoint", spec.Endpoint).Msg("attempt re-adopted")
		if a.table.add(at) {
			a.work.Go(func() { a.resume(at, run, leases[i]) })
		} else {
			leases[i].Release()
		}
	}
	return len(runs), nil
}

// resume follows a run that outlived its agent.
func (a *Agent) resume(at *attempt, run *shim.Run, lease *inference.Lease) {
	defer at.cancel(nil)
	at.conclude(at.follow(run, lease))
}
