package check

import (
	"encoding/json"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/check/ledger"
	"windlass/scripts/chaos/record"
)

// replayer follows the log with the ledger, whose rules are the simulator's too.
type replayer struct {
	r      *Report
	t      *tasks
	order  *order
	ledger *ledger.Ledger[*waiter]
	nth    int  // of the command in its entry
	adopts bool // the command is an adoption: nobody chose it from the queue
	leases map[string]map[string]int
}

// replay checks the log itself: I4 to I6, I8 to I12, I15, I16, I20. It needs the
// log from its beginning, which some coordinator has that never installed a
// snapshot; what it does not know it passes over.
func (r *Report) replay(h *record.History, t *tasks) {
	if len(h.Applied) == 0 {
		return
	}
	p := &replayer{r: r, t: t, order: newOrder(r, h), leases: make(map[string]map[string]int)}
	p.ledger = ledger.New(ledger.Config[*waiter]{Fail: r.add, Changed: p.changed, Granted: p.granted, Lost: p.lost, QueueLimit: h.QueueLimit})
	for i, a := range h.Applied {
		if i > 0 && h.Applied[i-1].Index == a.Index {
			continue
		}
		first := a.At
		for _, same := range h.Applied[i:] {
			if same.Index != a.Index {
				break
			}
			first = min(first, same.At)
		}
		batch, err := command.Unmarshal(a.Data)
		if err != nil {
			r.add("I19", "%s applied entry %d, which is damaged: %v", a.Node, a.Index, err)
			return
		}
		var results []command.Result
		if err := json.Unmarshal(a.Results, &results); err != nil || len(results) != len(batch.GetCommands()) {
			r.add("I17", "%s applied %d commands at index %d with %d results", a.Node, len(batch.GetCommands()), a.Index, len(results))
			return
		}
		r.Entries++
		p.ledger.Begin(a.Index, batch.GetClockMs())
		p.order.begin(first, batch.GetClockMs())
		for n, c := range batch.GetCommands() {
			p.nth = n
			p.apply(c, &results[n])
		}
	}
	p.startsHaveLeases()
}

func (p *replayer) apply(c *command.Command, res *command.Result) {
	if res.Code == protocol.CodeStaleAttempt || res.Code == protocol.CodeStaleIncarnation {
		p.r.Refused++
	}
	p.adopts = c.GetAdopt() != nil
	p.ledger.Apply(c, res)
	if c.GetRegister() != nil && res.Code == "" {
		p.order.register()
	}
}

// changed keeps the places of the queue.
func (p *replayer) changed(j *ledger.Job[*waiter], before protocol.Status) {
	switch {
	case before == 0:
		j.Note = newWaiter(j.Submit, j.ID, rank{j.Submit.GetPriority(), p.ledger.Index, p.nth})
		p.order.wait(j.Note, 0)
	case j.Status == before:
	case j.Status == protocol.StatusQueued:
		if before.Terminal() { // it begins again, at the end of the queue
			j.Note.rank.index, j.Note.rank.position = p.ledger.Index, p.nth
		}
		p.order.wait(j.Note, j.NotBeforeMs)
	case before == protocol.StatusQueued && j.Leased() && !p.adopts:
		p.order.grant(j.Note, p.ledger.Index)
	case before == protocol.StatusQueued:
		p.order.leave(j.Note)
	}
}

func (p *replayer) granted(j *ledger.Job[*waiter]) {
	of := p.leases[j.ID.String()]
	if of == nil {
		of = make(map[string]int)
		p.leases[j.ID.String()] = of
	}
	of[p.ledger.Name(j.Agent)]++
}

// lost is I20: only what was done to an agent takes a lease from it.
func (p *replayer) lost(j *ledger.Job[*waiter], detail string) {
	if name := p.ledger.Name(j.Agent); detail != ledger.Unheld && !p.t.everExcused(name) {
		p.r.add("I20", "entry %d took %s from %s as lost (%s), and nothing had happened to it", p.ledger.Index, j.ID, name, detail)
	}
}

// startsHaveLeases: nothing starts on an agent that was not granted it (I5).
func (p *replayer) startsHaveLeases() {
	p.t.each(func(k *task) {
		starts := make(map[string]int)
		for _, run := range k.starts() {
			starts[run.Job+" on "+run.Agent]++
			granted, known := p.leases[run.Job]
			if known && starts[run.Job+" on "+run.Agent] > granted[run.Agent] {
				p.r.add("I5", "task %d started on %s more often than the %d times that it was leased there", k.n, run.Agent, granted[run.Agent])
			}
		}
	})
}
