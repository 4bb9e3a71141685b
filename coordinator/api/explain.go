package api

import (
	"math"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// explain is GET /v2/jobs/{id}/explain.
func (s *Server) explain(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	b, berr := s.deps.Broker()
	if berr != nil {
		return errElsewhere
	}
	e := b.Explain(row)
	e.Status = s.shownStatus(row)
	if row.Status == protocol.StatusQueued {
		s.addETA(&e, row.Org, row.Target, row.NotBeforeMs)
	}
	return c.json(e)
}

// addETA estimates when a waiting job begins and completes, from how the jobs of
// its endpoint ended lately; nothing without that.
func (s *Server) addETA(e *protocol.Explain, org, endpoint string, notBeforeMs int64) {
	now := s.deps.NowMs()
	start := now
	if e.Ahead > 0 || e.Agents == nil || e.Agents.Free == 0 {
		rate := s.estimate.rate(org, endpoint, now)
		if rate == 0 || e.Never || e.Position == 0 {
			return
		}
		start += int64(math.Ceil(1000 * float64(e.Position) / rate))
	}
	start = max(start, notBeforeMs)
	e.ETA = &protocol.ETA{StartAt: protocol.Time(start)}
	if d := s.estimate.duration(org, endpoint); d != nil {
		e.ETA.CompleteAt = e.ETA.StartAt.Add(time.Duration(*d * float64(time.Second)))
	}
}

// dryRun answers a submit that is only to be looked at: it passed every check of
// its form, the counted limits let it pass now, and this is where it would stand.
func (s *Server) dryRun(c *call, e *state.Endpoint, cmd *command.Submit) error {
	b, berr := s.deps.Broker()
	if berr != nil {
		return errElsewhere
	}
	res := s.deps.Admit(cmd)
	if res.Code != "" {
		return s.refusedSubmit(c, res, e, cmd)
	}
	out := protocol.DryRun{
		DryRun: true, EndpointID: e.ID, Priority: protocol.Priority(cmd.GetPriority()), EstimatedDuration: s.estimate.duration(e.Org, e.ID),
		CostLimit: protocol.Money(cmd.GetReserve()),
	}
	if res.Replayed {
		out.JobID = res.Job
		return c.json(&out, [2]string{protocol.HeaderReplayed, "true"})
	}
	x := b.ExplainNew(e.Org, e.ID, out.Priority)
	s.addETA(&x, e.Org, e.ID, 0)
	out.Explain = &x
	return c.json(&out)
}

// dry reports whether the request only asks what a submit would be answered.
func (c *call) dry() (bool, error) {
	switch raw := c.query("dryRun"); raw {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, protocol.Invalid("dryRun", shown(raw), "Must be true or false")
	}
}
