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
}

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
		s.addSoft(doc, &soft, inc)
	case row.Status.Terminal():
		addOutcome(doc, row, inc)
	case row.Outcome != nil:
		addRetry(doc, row, s.deps.NowMs())
	}
	if n := retries(row); n > 0 || row.Status == protocol.StatusFailed {
		doc.RetryCount = ptr(n)
	}
	if inc.metrics {
		doc.Metrics = jobMetrics(doc, row)
	}
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
func (s *Server) addSoft(doc *protocol.JobStatus, soft *soft, inc include) {
	doc.Status, doc.Substate, doc.ColdStart = soft.status, soft.Substate, soft.ColdStart
	if soft.staleMs > 0 {
		doc.StaleSince = protocol.Time(soft.staleMs)
	}
	if soft.StartedMs > 0 {
		doc.StartedAt = protocol.Time(soft.StartedMs)
		doc.Execution = &protocol.Execution{Duration: seconds(s.deps.NowMs() - soft.StartedMs)}
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
func addOutcome(doc *protocol.JobStatus, row *state.Job, inc include) {
	out := row.Outcome
	if out == nil {
		return
	}
	ended := protocol.Time(out.EndedMs)
	facts := decodeFacts(out.Facts)
	doc.ColdStart = facts.ColdStart
	if out.StartedMs > 0 {
		doc.StartedAt = protocol.Time(out.StartedMs)
		doc.ExecutionTime = ptr(seconds(out.EndedMs - out.StartedMs))
		doc.Execution = &protocol.Execution{Duration: *doc.ExecutionTime}
	}
	if p := facts.Progress; p != nil {
		doc.Progress, doc.CurrentStep, doc.Metadata = percent(p), p.Step, p.Metadata
		doc.FinalMetrics = finalMetrics(p.Metrics)
	}
	if facts.Usage != nil {
		doc.Resources = peakResources(facts.Usage, inc.resources)
	}
	switch row.Status {
	case protocol.StatusCompleted:
		doc.CompletedAt, doc.Progress, doc.CurrentStep = ended, ptr(100.0), ""
		addOutput(doc, row, inc)
	case protocol.StatusFailed:
		doc.FailedAt = ended
		addError(doc, out)
		doc.Retryable = ptr(out.Retryable)
	case protocol.StatusTimeout:
		doc.TimedOutAt = ended
		addError(doc, out)
	case protocol.StatusCancelled:
		doc.CancelledAt = ended
		doc.PartialResults = out.Partial
	}
}

// addRetry adds why a queued job waits for another attempt.
func addRetry(doc *protocol.JobStatus, row *state.Job, nowMs int64) {
	if row.Failures == 0 {
		return
	}
	addError(doc, row.Outcome)
	doc.Retryable = ptr(true)
	if row.NotBeforeMs > nowMs {
		doc.NextRetryAt = protocol.Time(row.NotBeforeMs)
	}
}

func addError(doc *protocol.JobStatus, out *state.Outcome) {
	doc.PartialResults = out.Partial
	if out.ErrCode == "" {
		return
	}
	doc.Error = &protocol.JobError{Code: out.ErrCode, Message: out.ErrMessage}
	// The agent sent an object; another value would not be ours to repair.
	_ = json.Unmarshal(out.ErrDetails, &doc.Error.Details)
}

func addOutput(doc *protocol.JobStatus, row *state.Job, inc include) {
	out := row.Outcome.Output
	if out.Ref != nil || len(out.Inline) > inc.inline {
		doc.OutputURL = "/v2/jobs/" + row.ID.String() + "/output"
		return
	}
	doc.Output = out.Inline
}

func finalMetrics(m map[string]float64) map[string]any {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// jobMetrics is include=metrics.
func jobMetrics(doc *protocol.JobStatus, row *state.Job) *protocol.JobMetrics {
	m := doc.Metrics
	if m == nil {
		m = &protocol.JobMetrics{}
	}
	m.Attempts = int(row.Tries())
	granted := int64(0)
	switch {
	case row.Lease != nil:
		granted = row.Lease.GrantedMs
	case row.Outcome != nil:
		granted = row.Outcome.GrantedMs
		if p := decodeFacts(row.Outcome.Facts).Progress; p != nil {
			m.Custom = p.Metrics
		}
	}
	if granted > 0 {
		m.QueueWait = ptr(seconds(granted - waitingSince(row)))
	}
	return m
}

// waitingSince is when the job's run entered the queue.
func waitingSince(row *state.Job) int64 {
	if row.Extra != nil && row.Extra.ReopenedMs > 0 {
		return row.Extra.ReopenedMs
	}
	return row.CreatedMs
}

func decodeFacts(raw json.RawMessage) state.Facts {
	var f state.Facts
	// The leader encoded it; an unreadable one only hides measurements.
	_ = json.Unmarshal(raw, &f)
	return f
}

// liveResources is what the job's processes use now. With GPUs the flat memory
// is theirs, as the seed's samples show it; without, the processes'.
func liveResources(u *protocol.Usage, full bool) *protocol.Resources {
	r := &protocol.Resources{CPUUsage: ptr(round1(u.CPUPercent))}
	used, total := u.Memory, u.HostMemory
	if len(u.GPUs) > 0 {
		used, total = 0, 0
		sum, measured := 0, 0
		for _, g := range u.GPUs {
			used, total = used+g.MemoryUsedBytes, total+g.MemoryTotalBytes
			if g.Utilization != nil {
				sum, measured = sum+*g.Utilization, measured+1
			}
		}
		if measured > 0 {
			r.GPUUtilization = ptr(sum / measured)
		}
		r.GPUType = u.GPUs[0].Type
	}
	if used > 0 {
		r.MemoryUsage, r.MemoryUsageBytes = protocol.FormatBytes(used), used
	}
	if total > 0 {
		r.MemoryTotal, r.MemoryTotalBytes = protocol.FormatBytes(total), total
	}
	if full {
		r.GPUs = u.GPUs
		r.CPU = &protocol.CPUUsage{Utilization: round1(u.CPUPercent), Cores: u.Cores,
			Memory: protocol.FormatBytes(u.HostMemory), MemoryBytes: u.HostMemory}
	}
	return r
}

// peakResources is what the job's processes used at most.
func peakResources(u *protocol.Usage, full bool) *protocol.Resources {
	r := &protocol.Resources{TotalComputeTime: ptr(seconds(u.CPUMs))}
	if u.PeakMemory > 0 {
		r.PeakMemoryUsage, r.PeakMemoryBytes = protocol.FormatBytes(u.PeakMemory), u.PeakMemory
	}
	for i, g := range u.GPUs {
		if g.Utilization != nil && (r.PeakGPUUtilization == nil || *g.Utilization > *r.PeakGPUUtilization) {
			r.PeakGPUUtilization = g.Utilization
		}
		if i == 0 {
			r.GPUType = g.Type
		}
	}
	if full {
		r.GPUs = u.GPUs
	}
	return r
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
