package broker

import (
	"slices"

	"windlass/protocol"
)

// Health is how an endpoint stands with the agents that could serve it.
type Health struct {
	Running int // jobs whose handler has started
	Workers protocol.ClassicWorkers
}

// health counts every agent that suits the endpoint once, by what it does for it.
func (t *term) health(org, id string) Health {
	t.lock()
	defer t.unlock()
	var h Health
	e := t.endpoints[endpointKey{org, id}]
	if e == nil || e.row == nil {
		return h
	}
	now := t.now()
	for _, a := range t.roster {
		if a.row == nil || suits(a.row, e.row) != fit {
			continue
		}
		started, leased := a.serves(e)
		h.Running += started
		w := &h.Workers
		switch v := t.takes(a, e); {
		case !a.connected(now):
			w.Unhealthy++
		case started > 0:
			w.Running++
		case leased > 0:
			w.Initializing++
		case v != fit && v != notWaiting: // between two syncs it waits for a moment only
			w.Throttled++
		case a.warmFor(e):
			w.Idle++
		default:
			w.Ready++
		}
	}
	return h
}

// serves counts the agent's jobs of the endpoint: those that started, and all.
func (a *agent) serves(e *endpoint) (started, leased int) {
	for _, l := range a.leases {
		if l.endpoint == e && !l.finishing {
			leased++
			if l.startedAt != never {
				started++
			}
		}
	}
	for _, g := range a.grants {
		if g.endpoint == e {
			leased++
		}
	}
	return started, leased
}

// warmFor reports whether the agent has a free instance of the newest revision.
func (a *agent) warmFor(e *endpoint) bool {
	return a.row.Org == e.key.org && slices.ContainsFunc(a.warm, func(w protocol.WarmInstance) bool {
		return w.Free > 0 && w.Endpoint == e.key.id && w.Revision == e.row.Revision
	})
}
