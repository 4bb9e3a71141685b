package api

import (
	"encoding/json"
	"maps"
	"math"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// The metrics of a handler that the status shows under a name of its own
// (docs/command-runtime.md).
const (
	metricTokens = "tokensProcessed"
	metricCalls  = "apiCalls"
	metricItems  = "itemsProcessed"
)

// execution is what an attempt has spent in so many milliseconds.
func execution(ms int64, p *protocol.Progress) *protocol.Execution {
	x := &protocol.Execution{Duration: seconds(ms)}
	if p != nil {
		x.TokensProcessed, x.APICalls = counted(p.Metrics, metricTokens), counted(p.Metrics, metricCalls)
	}
	return x
}

// counted is a metric that counts something; nil when it was not told.
func counted(metrics map[string]float64, name string) *int64 {
	v, told := metrics[name]
	if !told || !(v >= 0 && v < 1<<53) {
		return nil
	}
	return ptr(int64(v))
}

// accrued is what the job cost so far, with a run of so many milliseconds that
// has not ended; nil when its endpoint has no price.
func (s *Server) accrued(row *state.Job, ms int64) *protocol.Money {
	cost, priced := row.Cost, row.Cost > 0
	if e := s.deps.Store.Endpoint(row.Org, row.Target); e != nil {
		doc := e.Doc
		switch {
		case row.Lease != nil:
			doc = e.At(row.Lease.Revision)
			cost = cost.Plus(doc.Cost(ms))
		case row.Outcome != nil && row.Outcome.Revision > 0:
			doc = e.At(row.Outcome.Revision)
		}
		priced = priced || doc.Price.GPUSecond > 0
	}
	if !priced {
		return nil
	}
	return &cost
}

// finalMetrics is what the handler told of the whole job, with what was measured
// of it here; nil without either.
func finalMetrics(doc *protocol.JobStatus, facts *state.Facts) map[string]any {
	m := make(map[string]any)
	if p := facts.Progress; p != nil {
		for k, v := range p.Metrics {
			m[k] = v
		}
		_, told := p.Metrics["averageLatency"]
		if items := p.Metrics[metricItems]; !told && items >= 1 && doc.ExecutionTime != nil {
			m["averageLatency"] = math.Round(1000**doc.ExecutionTime/items) / 1000
		}
	}
	maps.Copy(m, final(facts.Metrics))
	delete(m, metricTokens)
	delete(m, metricCalls)
	if x := doc.Execution; x != nil && x.CostAccrued != nil {
		m["totalCost"] = *x.CostAccrued
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// final reads the metrics that came with a result.
func final(raw json.RawMessage) map[string]any {
	var own map[string]json.RawMessage
	// The agent sent an object; another value would not be ours to repair.
	_ = json.Unmarshal(raw, &own)
	m := make(map[string]any, len(own))
	for k, v := range own {
		m[k] = v // as it was sent
	}
	return m
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
