package shim

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// Times of one run.
const (
	// stuckLimit is how long a driver may take to end a job that was told to
	// end; its own ladder needs 15 s (agent.md 4.7). Then the instance goes.
	stuckLimit = 60 * time.Second
	// rewriteMin and rewriteMax pace a journal that cannot be written, on a full
	// disk for example: the result waits, it is not lost.
	rewriteMin = 100 * time.Millisecond
	rewriteMax = 5 * time.Second
)

// shimRun is one invocation inside the shim.
type shimRun struct {
	id      string
	record  *Record
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timeout time.Duration
	over    chan struct{} // closed when Invoke returned

	// server.mu guards the rest.
	job      inference.Job
	ended    bool
	released bool // ended without a result, on drain
	crashed  bool
}

// invoke starts a run; one that exists already is left alone, because an agent
// repeats what it is not sure of.
func (s *server) invoke(m message) {
	if m.Job == nil {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &shimRun{
		id: m.Run, record: &Record{}, ctx: ctx, cancel: cancel, over: make(chan struct{}), job: *m.Job,
		timeout: time.Duration(m.TimeoutMs) * time.Millisecond,
	}
	if m.ColdStart != nil {
		r.record.SetColdStart(*m.ColdStart)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.runs[m.Run]; ok || s.ending || s.inst == nil {
		cancel(nil)
		return
	}
	s.runs[m.Run] = r
	inst := s.inst
	s.wg.Go(func() { s.execute(inst, r) })
}

// execute runs one job and journals its result.
func (s *server) execute(inst inference.Instance, r *shimRun) {
	defer r.cancel(nil)
	s.mu.Lock()
	job := r.job
	s.mu.Unlock()
	if r.timeout > 0 {
		t := time.AfterFunc(r.timeout, func() { r.cancel(inference.ErrTimeout) })
		defer t.Stop()
		job.Deadline = time.Now().Add(r.timeout)
	}
	job.Files = FilesDir(s.spec.Journal, r.id)
	s.meter.Begin(r.id, inst.PIDs(), time.Now())
	r.record.Start(time.Now())
	s.wake()
	guard := context.AfterFunc(r.ctx, func() { s.unstick(inst, r) })
	var excess error
	res, err := inst.Invoke(r.ctx, job, func(e inference.Event) {
		if err := r.record.Apply(e, time.Now()); err != nil {
			s.mu.Lock()
			excess = err
			s.mu.Unlock()
			r.cancel(inference.ErrCancelled)
		}
		s.wake()
	})
	close(r.over)
	guard()
	w, ok := inst.(inference.Retirer)
	retired := ok && w.Retired()
	s.mu.Lock()
	s.retired = s.retired || retired
	if excess != nil {
		err = excess
	}
	s.mu.Unlock()
	if u, ok := s.meter.End(r.id, inst.PIDs(), time.Now()); ok {
		r.record.SetUsage(u)
	}
	s.conclude(r, res, err)
}

// unstick ends an instance whose driver does not end a job.
func (s *server) unstick(inst inference.Instance, r *shimRun) {
	t := time.NewTimer(stuckLimit)
	defer t.Stop()
	select {
	case <-r.over:
	case <-inst.Done():
	case <-t.C:
		s.log.Error().Str("job", r.job.ID).Msg("the runtime did not end its job and is killed")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = inst.Stop(ctx) // the end of Invoke says whether it worked
	}
}

// conclude journals the result, then tells it.
func (s *server) conclude(r *shimRun, res inference.Result, err error) {
	cause := context.Cause(r.ctx)
	now := time.Now()
	f, crashed := s.finish(r, res, err, cause)
	released := err != nil && errors.Is(cause, inference.ErrDrain) && (f.Outcome != protocol.OutcomeFailed || crashed)
	run := r.id
	if released || len(f.Files) == 0 {
		s.discardFiles(r)
		run = ""
	}
	if !released {
		s.journal(r, f, run, now)
	}
	s.mu.Lock()
	r.ended, r.released, r.crashed = true, released, crashed
	if crashed {
		s.spent = true
	}
	spent := s.spent
	for _, o := range s.runs {
		spent = spent && o.ended
	}
	s.mu.Unlock()
	s.wake()
	if spent {
		s.requestStop(stopGrace)
	}
}

// discardFiles drops what was taken of a run whose result has no files.
func (s *server) discardFiles(r *shimRun) {
	if err := RemoveFiles(s.spec.Journal, r.id); err != nil {
		s.log.Error().Err(err).Str("job", r.job.ID).Msg("files that nobody needs stay in the journal")
	}
}

// handedIn are the files of a run as its result names them.
func handedIn(files []inference.File) []protocol.OutputFile {
	var out []protocol.OutputFile
	for _, f := range files {
		out = append(out, protocol.OutputFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	return out
}

// finish is the result document without what the record adds.
func (s *server) finish(r *shimRun, res inference.Result, err error, cause error) (protocol.Finish, bool) {
	f := protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: res.Output, Metrics: res.Metrics, Files: handedIn(res.Files)}
	var failure *inference.Failure
	var paused *inference.Paused
	switch {
	case errors.As(err, &paused) && cause == nil:
		return protocol.Finish{Outcome: protocol.OutcomePaused, Checkpoint: paused.Checkpoint}, false
	case err == nil && len(res.Output) > protocol.MaxOutput:
		failure = &inference.Failure{
			Code: protocol.CodeOutputTooLarge, Message: "the output is larger than " + protocol.FormatBytes(protocol.MaxOutput),
			Details: map[string]any{"limit": protocol.MaxOutput, "size": len(res.Output)},
		}
	case err == nil && !json.Valid(res.Output):
		failure = &inference.Failure{Code: protocol.CodeOutputInvalid, Message: "the output is not JSON"}
	case err == nil:
		return f, false
	case errors.As(err, &failure):
		failure = withLines(failure, s.tail(r, failure))
	case errors.Is(cause, inference.ErrTimeout):
		return protocol.Finish{Outcome: protocol.OutcomeTimeout, Error: &protocol.JobError{
			Code: protocol.CodeExecutionTimeout, Message: "the job ran longer than its execution timeout",
			Details: map[string]any{"executionTimeout": r.timeout.Milliseconds()},
		}}, false
	case cause != nil:
		return protocol.Finish{Outcome: protocol.OutcomeCancelled, Error: &protocol.JobError{
			Code: protocol.CodeCancelled, Message: "the job was cancelled",
		}}, false
	default:
		failure = failureOf(err)
	}
	return protocol.Finish{
		Outcome: protocol.OutcomeFailed, Error: failure.JobError(), Retryable: failure.Retryable, Partial: failure.Partial,
		Files: handedIn(failure.Files),
	}, failure.Crashed
}

// tail explains failures that the handler itself did not report.
func (s *server) tail(r *shimRun, f *inference.Failure) []string {
	if !f.Crashed && f.Code != protocol.CodeStalled && f.Code != protocol.CodeRuntimeProtocol && f.Code != protocol.CodeOutputInvalid {
		return nil
	}
	if lines := r.record.lastLines(failureLines); len(lines) > 0 {
		return lines
	}
	return s.start.lastLines(failureLines)
}

// journal writes the result; it returns when it is durable.
func (s *server) journal(r *shimRun, f protocol.Finish, files string, now time.Time) {
	if err := r.record.fill(&f, now); err != nil {
		f = protocol.Finish{Files: f.Files, Outcome: protocol.OutcomeFailed, Error: &protocol.JobError{Code: protocol.CodeOutputInvalid, Message: err.Error()}}
	}
	if err := syncFiles(s.spec.Journal, files); err != nil {
		s.log.Error().Err(err).Str("job", r.job.ID).Msg("files of a result are not durable yet")
	}
	pause := rewriteMin
	for {
		s.mu.Lock()
		job, attempt := r.job.ID, r.job.Attempt
		s.mu.Unlock()
		id, err := protocol.ParseJobID(job)
		if err != nil {
			s.log.Error().Err(err).Msg("a run has no job id")
			return
		}
		f.Job, f.Attempt = id, attempt
		if err = WriteEntry(s.spec.Journal, Entry{Ended: protocol.TimeOf(now), Finish: f, Files: files}); err == nil {
			return
		}
		s.log.Error().Err(err).Str("job", job).Uint32("attempt", attempt).Msg("a result waits because it cannot be written")
		time.Sleep(pause)
		pause = min(2*pause, rewriteMax)
	}
}

func (s *server) requestStop(grace time.Duration) {
	select {
	case s.stop <- grace:
	default:
	}
}
