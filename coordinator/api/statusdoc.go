package api

import (
	"encoding/json"
	"math"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// include says which parts of a status document were asked for.
type include struct {
	logs, metrics, resources bool
	// inline is the largest output that is shown; a larger one is a URL.
	inline int
	base   string // of URLs, without /v2
}

// include is the default of a document in an answer to this request.
func (c *call) include(inline int) include { return include{inline: inline, base: c.baseURL()} }

// document builds the status document of a row. What was not measured is
// absent; nothing is guessed.
func (s *Server) document(row *state.Job, inc include) *protocol.JobStatus {
	doc := &protocol.JobStatus{
		JobID: row.ID, TaskID: row.ID, Status: row.Status, EndpointID: row.Target, Priority: row.Priority,
		CreatedAt: protocol.Time(row.CreatedMs),
		// Read before the rest, so that it never promises more than is shown.
		Revision: s.deps.Board.Revision(row).String(),
	}
	switch {
	case row.Lease != nil:
		soft := s.softOf(row)
		s.addSoft(doc, row, &soft, inc)
	case row.Status.Terminal():
		s.addOutcome(doc, row, inc)
	case row.Outcome != nil:
		s.addRetry(doc, row, inc)
	}
	if n := retries(row); n > 0 || row.Status == protocol.StatusFailed {
		doc.RetryCount = ptr(n)
	}
	if inc.metrics {
		doc.Metrics = jobMetrics(doc, row)
	}
	s.addSuggestions(doc, row)
	if x := row.Extra; x != nil {
		doc.CallbackURL = x.CallbackURL
		doc.Tags = tagMap(x.Tags)
	}
	return doc
}

func tagMap(tags []state.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// shownStatus is the public state of a row: a leased job runs once its handler
// has started, which only the board knows.
func (s *Server) shownStatus(row *state.Job) protocol.Status {
	if row.Lease != nil {
		return s.softOf(row).status
	}
	return row.Status
}

// addSoft adds what the agent said about the attempt that runs.
func (s *Server) addSoft(doc *protocol.JobStatus, row *state.Job, soft *soft, inc include) {
	doc.Status, doc.Substate, doc.ColdStart = soft.status, soft.Substate, coldStart(soft.ColdStart)
	nowMs := s.deps.NowMs()
	if soft.staleMs > 0 {
		doc.StaleSince = protocol.Time(soft.staleMs)
	}
	if soft.StartedMs > 0 {
		doc.StartedAt = protocol.Time(soft.StartedMs)
		doc.Execution = execution(nowMs-soft.StartedMs, soft.Progress)
		doc.Execution.CostAccrued = s.accrued(row, nowMs-soft.StartedMs)
		doc.EstimatedCompletion = s.estimate.completion(row.Org, row.Target, soft.StartedMs, nowMs)
	}
	if p := soft.Progress; p != nil {
		doc.Progress, doc.CurrentStep, doc.Metadata, doc.Throughput = percent(p), p.Step, p.Metadata, p.Throughput
		if p.EtaMs != nil && soft.StartedMs > 0 {
			doc.EstimatedCompletion = protocol.Time(soft.ProgressMs).Add(time.Duration(*p.EtaMs) * time.Millisecond)
		}
		if inc.metrics && len(p.Metrics) > 0 {
			doc.Metrics = &protocol.JobMetrics{Custom: p.Metrics}
		}
	}
	if soft.Usage != nil {
		doc.Resources = liveResources(soft.Usage, inc.resources)
	}
}

// retries is how often this run of the job was or will be tried again after a
// failure. The failure that ended it is no retry.
func retries(row *state.Job) int {
	n := int(row.Failures)
	timedOut := row.Status == protocol.StatusTimeout && row.Outcome != nil && row.Outcome.ErrCode == protocol.CodeExecutionTimeout
	if row.Status == protocol.StatusFailed || timedOut {
		n--
	}
	return max(n, 0)
}

// addOutcome adds how a terminal job ended.
func (s *Server) addOutcome(doc *protocol.JobStatus, row *state.Job, inc include) {
	out := row.Outcome
	if out == nil {
		return
	}
	ended := protocol.Time(out.EndedMs)
	facts := decodeFacts(out.Facts)
	doc.ColdStart = coldStart(facts.ColdStart)
	if out.StartedMs > 0 {
		doc.StartedAt = protocol.Time(out.StartedMs)
		doc.ExecutionTime = ptr(seconds(out.EndedMs - out.StartedMs))
		doc.Execution = execution(out.EndedMs-out.StartedMs, facts.Progress)
		doc.Execution.CostAccrued = s.accrued(row, 0)
	}
	if p := facts.Progress; p != nil {
		doc.Progress, doc.CurrentStep, doc.Metadata, doc.Throughput = percent(p), p.Step, p.Metadata, p.Throughput
	}
	doc.FinalMetrics = finalMetrics(doc, &facts)
	if facts.Usage != nil {
		doc.Resources = peakResources(facts.Usage, inc.resources)
	}
	switch row.Status {
	case protocol.StatusCompleted:
		doc.CompletedAt, doc.Progress, doc.CurrentStep = ended, ptr(100.0), ""
	case protocol.StatusFailed:
		doc.FailedAt = ended
		s.addError(doc, row, inc)
		doc.Retryable = ptr(out.Retryable)
	case protocol.StatusTimeout:
		doc.TimedOutAt = ended
		s.addError(doc, row, inc)
	case protocol.StatusCancelled:
		doc.CancelledAt = ended
	}
	s.addOutputs(doc, row, inc)
}

// addRetry adds why a queued job waits for another attempt.
func (s *Server) addRetry(doc *protocol.JobStatus, row *state.Job, inc include) {
	if row.Failures == 0 {
		return
	}
	s.addError(doc, row, inc)
	s.addOutputs(doc, row, inc)
	doc.Retryable = ptr(true)
	if row.NotBeforeMs > s.deps.NowMs() {
		doc.NextRetryAt = protocol.Time(row.NotBeforeMs)
	}
}

func (s *Server) addError(doc *protocol.JobStatus, row *state.Job, inc include) {
	out := row.Outcome
	if out.ErrCode == "" {
		return
	}
	doc.Error = &protocol.JobError{Code: out.ErrCode, Message: out.ErrMessage}
	// The agent sent an object; another value would not be ours to repair.
	_ = json.Unmarshal(out.ErrDetails, &doc.Error.Details)
	if out.ErrCode == protocol.CodeStorageLimit && doc.Error.Details != nil {
		doc.Error.Details["upgradeUrl"] = s.upgradeURL(inc.base, row.Org)
	}
}

func decodeFacts(raw json.RawMessage) state.Facts {
	var f state.Facts
	// The leader encoded it; an unreadable one only hides measurements.
	_ = json.Unmarshal(raw, &f)
	return f
}

// summary is format=summary (seed S2, first sample).
func summary(doc *protocol.JobStatus) *protocol.JobSummary {
	sum := &protocol.JobSummary{JobID: doc.JobID, Status: doc.Status, Progress: doc.Progress, Result: doc.Output}
	if doc.Error != nil {
		sum.Error = doc.Error.Message
	}
	return sum
}

func ptr[T any](v T) *T { return &v }

// seconds converts milliseconds; a negative length is a clock's doing and 0.
func seconds(ms int64) float64 { return float64(max(ms, 0)) / 1000 }

func round1(v float64) float64 { return math.Round(v*10) / 10 }

// percent is how far the handler is, to a tenth: it divides, and nobody wants
// to read 56.00000000000001.
func percent(p *protocol.Progress) *float64 {
	if p.Percent == nil {
		return nil
	}
	return ptr(round1(*p.Percent))
}
