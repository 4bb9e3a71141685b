package check

import (
	"cmp"
	"slices"
	"time"

	"windlass/scripts/chaos/record"
)

// exitLimit is how long a coordinator with a failed disk may live on: its stall
// watchdog waits five seconds, and then the last line is written.
const exitLimit = 10 * time.Second

// exits is I18: after a storage error a coordinator acknowledges nothing more
// and ends.
func (r *Report) exits(h *record.History) {
	for _, f := range h.Faults {
		if f.Exit == "" {
			continue
		}
		gone := slices.IndexFunc(h.Exits, func(e record.Exit) bool {
			return e.Node == f.Exit && e.At >= f.At && e.At <= f.At+int64(exitLimit)+h.Stolen(f.At, f.At+int64(exitLimit))
		})
		if gone < 0 {
			r.add("I18", "%s did not end within %s of %s", f.Exit, exitLimit, f.Name)
		}
	}
}

// noticeTime is how much later a fault may be recorded than a coordinator that
// was told to kill itself at a point has ended.
const noticeTime = time.Second

// crashes: a coordinator ends only where a fault named it. Whoever starts it
// again, as a service manager does, would hide that.
func (r *Report) crashes(h *record.History) {
	for _, e := range h.Exits {
		explained := h.EndedAt > 0 && e.At >= h.EndedAt || slices.ContainsFunc(h.Faults, func(f record.Fault) bool {
			return slices.Contains(f.Target, e.Node) && f.At-int64(noticeTime) <= e.At && (f.Until == 0 || e.At <= f.Until+int64(exitLimit))
		})
		if !explained {
			r.add("I20", "%s ended, and nothing had been done to it", e.Node)
		}
	}
}

// Gap is how long nobody could submit after one injection of a fault.
type Gap struct {
	Fault record.Fault
	Span  time.Duration
	Found bool // a submit succeeded at all
}

// Gaps measures, for each fault that says so, the time from when it was in force
// to the first success of a submit that began after that.
func Gaps(h *record.History) []Gap {
	var acks []record.Call
	for _, c := range h.Calls {
		if c.Op == record.OpSubmit && c.Outcome == record.OK {
			acks = append(acks, c)
		}
	}
	slices.SortFunc(acks, func(a, b record.Call) int { return cmp.Compare(a.End, b.End) })
	var out []Gap
	for _, f := range h.Faults {
		if f.Limit == 0 {
			continue
		}
		g, from := Gap{Fault: f}, max(f.At, f.Struck)
		for _, c := range acks {
			if c.Start >= from {
				g.Span, g.Found = record.Span(from, c.End), true
				break
			}
		}
		out = append(out, g)
	}
	return out
}

// gaps is I20: a healthy majority serves again in time. The time in which this
// machine gave the harness no processor does not count.
func (r *Report) gaps(h *record.History) {
	for _, g := range Gaps(h) {
		from := max(g.Fault.At, g.Fault.Struck)
		limit := time.Duration(g.Fault.Limit + h.Stolen(from, from+int64(g.Span)))
		switch {
		case !g.Found:
			r.add("I20", "no submit succeeded after %s", g.Fault.Name)
		case g.Span > limit:
			r.add("I20", "the first submit after %s succeeded after %s, more than %s", g.Fault.Name, g.Span.Round(time.Millisecond), limit.Round(time.Millisecond))
		}
	}
}
