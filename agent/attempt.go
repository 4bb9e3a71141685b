package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"windlass/agent/shim"
	"windlass/inference"
	"windlass/protocol"
)

// errDetach ends an attempt's goroutine without ending its job: the agent
// leaves, the shim stays.
var errDetach = errors.New("the agent leaves")

// errPause ends the loading of an attempt that is to pause: nothing of it is lost.
var errPause = errors.New("the job is paused")

// maxTakes bounds how often a job is handed to an instance that ends before it
// takes it; after that the runtime counts as crashed.
const maxTakes = 3

// phase is where an attempt stands.
type phase uint8

const (
	loading  phase = iota // fetches its input, waits for an instance
	running               // a runtime has it
	finished              // the journal has its result
)

// attempt is one leased run of a job, from its assignment to the answer to its
// result. table.mu guards id.
type attempt struct {
	agent  *Agent
	id     protocol.HeldAttempt
	assign protocol.Assignment
	gpus   int
	ctx    context.Context // ends with the reason to stop, or errDetach
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	phase     phase
	run       *shim.Run
	pause     bool                    // it was asked to stop at a checkpoint
	pausable  bool                    // its runtime can
	quit      context.CancelCauseFunc // ends its loading; nil before and after
	drop      bool                    // no result is wanted
	cursor    shim.Cursor             // what the coordinator has
	told      bool                    // it was told that the attempt loads
	uploading bool                    // finished, and what it made is on its way
	finish    *protocol.Finish
	ended     protocol.Time
	settled   chan struct{} // closed when the result was answered or dropped

	// disk orders what is done with the journal's files of the attempt.
	disk   sync.Mutex
	stored protocol.HeldAttempt // the number that the entry has; zero before it was read
	files  string               // the directory of its files; known once it was read
}

func (a *Agent) newAttempt(id protocol.HeldAttempt) *attempt {
	at := &attempt{agent: a, id: id, settled: make(chan struct{})}
	at.ctx, at.cancel = context.WithCancelCause(a.life)
	return at
}

// occupies reports whether the attempt holds a slot.
func (at *attempt) occupies() bool {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.phase < finished
}

// stop ends the attempt for a reason; a stale one must leave no result.
func (at *attempt) stop(reason protocol.StopReason) {
	cause := inference.ErrCancelled
	switch reason {
	case protocol.StopPause:
		at.askToPause()
		return
	case protocol.StopTimeout:
		cause = inference.ErrTimeout
	case protocol.StopDrain:
		cause = inference.ErrDrain
	case protocol.StopStale:
		at.mu.Lock()
		at.drop = true
		at.mu.Unlock()
	case protocol.StopCancelled:
	}
	at.cancel(cause)
	at.mu.Lock()
	over := at.drop && at.phase >= finished
	at.mu.Unlock()
	if over {
		at.settle()
	}
}

// askToPause ends an attempt that still loads, and asks the runtime of one that
// runs. Asked again it does nothing.
func (at *attempt) askToPause() {
	at.mu.Lock()
	run, quit := at.run, at.quit
	at.pause = true
	at.mu.Unlock()
	if quit != nil {
		quit(errPause)
	}
	if run != nil {
		run.Pause()
	}
}

// pausing reports whether the attempt is to stop at a checkpoint.
func (at *attempt) pausing() bool {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.pause
}

// loads returns the context of what comes before the run; it ends with ctx, or
// when the attempt is to pause.
func (at *attempt) loads() context.Context {
	ctx, quit := context.WithCancelCause(at.ctx)
	at.mu.Lock()
	at.quit = quit
	pause := at.pause
	at.mu.Unlock()
	if pause {
		quit(errPause)
	}
	return ctx
}

func (at *attempt) dropped() bool {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.drop
}

// live is the life of an assigned attempt.
func (at *attempt) live(doc protocol.Endpoint) {
	defer at.cancel(nil)
	loading := at.loads()
	job, err := at.agent.job(loading, at.assign)
	var spec inference.Spec
	if err == nil {
		spec, err = at.agent.spec(doc)
		if err != nil {
			at.giveBack(err.Error())
			return
		}
	}
	if err != nil {
		at.fail(err)
		return
	}
	key := inference.Key{Endpoint: spec.Endpoint, Revision: spec.Revision}
	at.agent.pool.Configure(key, spec, doc.Warm)
	for take := 1; ; take++ {
		lease, err := at.agent.pool.Acquire(loading, key, spec, nil)
		if err != nil {
			at.fail(err)
			return
		}
		end, over := at.invoke(lease, job)
		if over || take == maxTakes {
			at.conclude(end)
			return
		}
	}
}

// invoke runs the job on one instance; false means that the instance ended
// before it took the job.
func (at *attempt) invoke(lease *inference.Lease, job inference.Job) (shim.End, bool) {
	remote, ok := lease.Instance().(*shim.Remote)
	if !ok {
		lease.Release()
		return shim.End{Err: fmt.Errorf("cannot use instance of type %T: it has no journal", lease.Instance())}, true
	}
	if at.pausing() {
		lease.Release()
		return shim.End{Err: errPause}, true
	}
	cold := lease.ColdStart()
	id := at.agent.table.key(at)
	job.ID, job.Attempt = id.Job.String(), id.Attempt
	run := remote.Begin(job, time.Duration(at.assign.ExecutionMs)*time.Millisecond, &cold)
	end := at.follow(run, lease)
	return end, !errors.Is(end.Err, shim.ErrNotTaken)
}

// follow watches a run to its end and gives the slot back.
func (at *attempt) follow(run *shim.Run, lease *inference.Lease) shim.End {
	pausable := run.Pausable()
	at.mu.Lock()
	at.phase, at.run, at.pausable, at.quit = running, run, pausable, nil
	pause := at.pause
	at.mu.Unlock()
	if pause { // it came after the last look, and before the run was known
		run.Pause()
	}
	// The number may have changed between Begin and here.
	if id := at.agent.table.key(at); id != run.Key() {
		run.Renumber(id.Attempt)
	}
	run.Watch(func(started bool) { at.agent.reporter.dirty(started) })
	stop := context.AfterFunc(at.ctx, func() {
		if cause := context.Cause(at.ctx); !errors.Is(cause, errDetach) {
			run.Cancel(cause)
		}
	})
	defer stop()
	<-run.Done()
	end := run.End()
	if end.Crashed {
		lease.Discard()
	} else {
		lease.Release()
	}
	return end
}

// conclude turns the end of a run into a result, or gives the attempt back.
func (at *attempt) conclude(end shim.End) {
	switch {
	case errors.Is(end.Err, shim.ErrDetached):
	case end.Released, errors.Is(end.Err, inference.ErrDrain):
		at.giveBack("the agent drains")
	case end.Err != nil:
		at.fail(end.Err)
	default:
		at.handIn(end.Key)
	}
}

// giveBack returns the attempt unpunished.
func (at *attempt) giveBack(reason string) {
	id := at.agent.table.key(at)
	at.agent.log.Info().Stringer("job", id.Job).Uint32("attempt", id.Attempt).Str("reason", reason).Msg("attempt given back")
	if !at.dropped() {
		at.agent.table.reject(protocol.Reject{Job: id.Job, Attempt: id.Attempt, Reason: reason})
	}
	at.forget()
	at.agent.session.renew()
}

// fail journals a result that no runtime made.
func (at *attempt) fail(err error) {
	cause := context.Cause(at.ctx)
	switch {
	case errors.Is(cause, errDetach), errors.Is(err, inference.ErrPoolClosed) && at.agent.life.Err() != nil:
		return // the next life of this agent decides
	case errors.Is(cause, inference.ErrDrain), errors.Is(err, inference.ErrPoolClosed):
		at.giveBack("the agent drains")
		return
	}
	id := at.agent.table.key(at)
	f := failFinish(err, cause)
	f.Job, f.Attempt = id.Job, id.Attempt
	at.mu.Lock()
	run := at.run
	at.mu.Unlock()
	if run != nil {
		run.Record.Complete(&f, time.Now())
	}
	b := backoff{}
	for {
		err := shim.WriteEntry(at.agent.journal.dir, shim.Entry{Ended: protocol.TimeOf(time.Now()), Finish: f})
		if err == nil {
			break
		}
		at.agent.log.Error().Err(err).Stringer("job", id.Job).Msg("a result waits because it cannot be written")
		if !b.wait(at.agent.life) {
			return
		}
	}
	at.handIn(id)
}

func failFinish(err, cause error) protocol.Finish {
	var failure *inference.Failure
	switch {
	case errors.Is(err, errPause) && cause == nil:
		return protocol.Finish{Outcome: protocol.OutcomePaused}
	case errors.Is(cause, inference.ErrTimeout):
		return protocol.Finish{Outcome: protocol.OutcomeTimeout, Error: &protocol.JobError{
			Code: protocol.CodeExecutionTimeout, Message: "the job ran longer than its execution timeout",
		}}
	case errors.Is(cause, inference.ErrCancelled):
		return protocol.Finish{Outcome: protocol.OutcomeCancelled, Error: &protocol.JobError{
			Code: protocol.CodeCancelled, Message: "the job was cancelled",
		}}
	case errors.As(err, &failure):
	default:
		failure = &inference.Failure{Code: protocol.CodeRuntimeCrashed, Message: err.Error(), Retryable: true}
	}
	return protocol.Finish{
		Outcome: protocol.OutcomeFailed, Error: failure.JobError(), Retryable: failure.Retryable, Partial: failure.Partial,
	}
}

// forget removes the attempt from the held set; nothing of it is wanted.
func (at *attempt) forget() {
	at.mu.Lock()
	select {
	case <-at.settled:
	default:
		close(at.settled)
	}
	at.mu.Unlock()
	at.agent.table.remove(at)
}

// settle drops an answered or unwanted result.
func (at *attempt) settle() {
	id := at.agent.table.key(at)
	at.disk.Lock()
	if at.stored.Attempt != 0 {
		id = at.stored
	}
	err := errors.Join(shim.RemoveEntry(at.agent.journal.dir, id), shim.RemoveFiles(at.agent.journal.dir, at.files))
	at.disk.Unlock()
	if err != nil {
		at.agent.log.Error().Err(err).Stringer("job", id.Job).Msg("an answered result stays in the journal")
	}
	at.forget()
}

// rewind makes the next report say everything again, to a coordinator that
// may know nothing.
func (at *attempt) rewind() {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.cursor, at.told = shim.Cursor{}, false
}

// retell makes the next report say again what is soft, to a coordinator that may
// be another one. Its answer names the log lines and chunks that it lacks.
func (at *attempt) retell() {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.cursor.Soft, at.told = shim.Cursor{}.Soft, false
}

// update is what the coordinator lacks of a live attempt. The cursor is moved
// by acknowledge, when the answer came.
func (at *attempt) update(limit int, now time.Time) (protocol.AttemptUpdate, shim.Cursor, bool) {
	id := at.agent.table.key(at)
	at.mu.Lock()
	defer at.mu.Unlock()
	u, cur, ok := protocol.AttemptUpdate{}, at.cursor, false
	pausable := at.pausable || at.phase == loading // then nothing would be lost
	switch {
	case at.phase >= finished:
		if at.uploading && !at.told {
			u.Substate, ok = protocol.SubstateUploading, true
		}
	case at.phase == running:
		u, cur, ok = at.run.Record.Since(at.cursor, limit, now)
	case !at.told:
		u.Substate, ok = protocol.SubstateWarmingUp, true
	}
	u.Job, u.Attempt, u.Pausable = id.Job, id.Attempt, &pausable
	return u, cur, ok
}

// acknowledge notes what the coordinator has now; it reports whether more waits.
func (at *attempt) acknowledge(sent shim.Cursor, reply protocol.AttemptReply) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.told = true
	at.cursor = shim.Cursor{Soft: sent.Soft, Logs: reply.NextLog, Chunks: reply.NextChunk}
}

// result is the finish that can be sent now.
func (at *attempt) result(now time.Time) (protocol.Finish, bool) {
	id := at.agent.table.key(at)
	at.mu.Lock()
	defer at.mu.Unlock()
	if at.finish == nil || at.drop {
		return protocol.Finish{}, false
	}
	f := *at.finish
	f.Attempt = id.Attempt
	f.EndedMs = max(0, protocol.TimeOf(now).Sub(at.ended).Milliseconds())
	return f, true
}
