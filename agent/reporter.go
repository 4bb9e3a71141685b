package agent

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"windlass/agent/shim"
	"windlass/protocol"
)

// Bounds of one report. Both stay far below protocol.MaxBody together, because
// a report that is refused for its size would be refused for ever.
const (
	reportDetail  = 2 << 20 // logs and chunks of all attempts
	attemptDetail = 256 << 10
	reportResults = 4 << 20
	// coalesce is how long progress waits for more of it; people do not see less.
	coalesce = 200 * time.Millisecond
)

// reporter sends everything that flows up: one report at a time, so that logs
// and chunks stay in order and results of several attempts share one.
type reporter struct {
	agent *Agent
	soon  chan struct{}
	now   chan struct{}
	beat  atomic.Int64 // ms
}

func newReporter(a *Agent) *reporter {
	r := &reporter{agent: a, soon: make(chan struct{}, 1), now: make(chan struct{}, 1)}
	r.setBeat(protocol.BeatPeriod.Milliseconds())
	return r
}

// dirty asks for a report: at once for a start or a result, else shortly.
func (r *reporter) dirty(urgent bool) {
	c := r.soon
	if urgent {
		c = r.now
	}
	select {
	case c <- struct{}{}:
	default:
	}
}

// setBeat changes how often an idle agent reports.
func (r *reporter) setBeat(ms int64) {
	if ms > 0 {
		r.beat.Store(ms)
	}
}

// loop reports until ctx ends.
func (r *reporter) loop(ctx context.Context) {
	b := backoff{}
	for {
		if !r.await(ctx) {
			return
		}
		inc, ok := r.agent.session.current(ctx)
		if !ok {
			return
		}
		more, err := r.report(ctx, inc)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			b.reset()
			if more {
				r.dirty(true)
			}
		case refused(err):
			r.agent.session.expire(inc)
			r.dirty(true)
		default:
			r.agent.log.Warn().Err(err).Msg("a report was not answered; will try again")
			b.wait(ctx)
			r.agent.retell()
			r.dirty(true)
		}
	}
}

// await returns when a report is due; false when ctx ended.
func (r *reporter) await(ctx context.Context) bool {
	t := time.NewTimer(time.Duration(r.beat.Load()) * time.Millisecond)
	defer t.Stop()
	soon := r.soon
	for {
		select {
		case <-ctx.Done():
			return false
		case <-r.now:
			return true
		case <-soon:
			soon = nil // once is enough
			t.Reset(coalesce)
		case <-t.C:
			return true
		}
	}
}

// report sends one report and applies its answer; more says that not all of
// what waits fitted in.
func (r *reporter) report(ctx context.Context, inc protocol.Incarnation) (more bool, err error) {
	a := r.agent
	req, sent, more := r.build(inc)
	callCtx, cancel := context.WithTimeout(ctx, protocol.CallLimit)
	defer cancel()
	began := time.Now()
	resp, err := a.deps.Coordinator.Report(callCtx, req)
	if err != nil {
		a.reportOver()
		return false, err // the next report's answer asks for a sync, which brings what was assigned
	}
	for _, rep := range resp.Attempts {
		r.answered(rep, sent)
	}
	renew := a.obeyReport(inc, &resp, time.Since(began))
	a.reportOver()
	a.stopAll(resp.Stop)
	if renew || resp.Resync {
		a.session.renew()
	}
	r.setBeat(resp.BeatMs)
	return more, nil
}

// answered applies the answer to one attempt.
func (r *reporter) answered(rep protocol.AttemptReply, sent map[protocol.HeldAttempt]shim.Cursor) {
	a := r.agent
	k := protocol.HeldAttempt{Job: rep.Job, Attempt: rep.Attempt}
	at := a.table.get(k)
	if at == nil {
		return
	}
	switch {
	case rep.Finished:
		if rep.Code != "" {
			a.log.Warn().Stringer("job", k.Job).Uint32("attempt", k.Attempt).Str("code", string(rep.Code)).Msg("a result was refused")
		}
		a.metrics.answered(rep.Code)
		at.settle()
	case rep.Code != "":
		a.log.Warn().Stringer("job", k.Job).Uint32("attempt", k.Attempt).Str("code", string(rep.Code)).Msg("an attempt is stopped because it is not ours any more")
		at.stop(protocol.StopStale)
	default:
		if cur, ok := sent[k]; ok {
			at.acknowledge(cur, rep)
		}
	}
}

// build makes one report from what is true now.
func (r *reporter) build(inc protocol.Incarnation) (protocol.ReportRequest, map[protocol.HeldAttempt]shim.Cursor, bool) {
	a, now := r.agent, time.Now()
	req := protocol.ReportRequest{
		Agent: a.id, Incarnation: inc, Host: a.hostSample(),
		Takes: true, Warm: a.pool.Warm(), Endpoints: a.table.revisions(),
	}
	sent := make(map[protocol.HeldAttempt]shim.Cursor)
	detail, results, more := reportDetail, reportResults, false
	for _, at := range a.table.list() {
		if f, ok := at.result(now); ok {
			if results -= finishSize(f); results < 0 && len(req.Finished) > 0 {
				more = true
				continue
			}
			req.Finished = append(req.Finished, f)
			continue
		}
		if detail <= 0 {
			more = true
			continue
		}
		limit := min(detail, attemptDetail)
		u, cur, ok := at.update(limit, now)
		if !ok {
			continue
		}
		size := detailSize(u)
		more = more || size >= limit
		detail -= size
		sent[protocol.HeldAttempt{Job: u.Job, Attempt: u.Attempt}] = cur
		req.Attempts = append(req.Attempts, u)
	}
	a.reportStatement(&req)
	return req, sent, more
}

func detailSize(u protocol.AttemptUpdate) int {
	n := 0
	for _, l := range u.Logs {
		n += len(l.Line)
	}
	return n + rawSize(u.Chunks)
}

func rawSize(raw []json.RawMessage) int {
	n := 0
	for _, c := range raw {
		n += len(c)
	}
	return n
}

func finishSize(f protocol.Finish) int {
	return rawSize([]json.RawMessage{f.Output, f.Logs, f.Chunks, f.Partial}) + 1024 // its fence, error and figures
}
