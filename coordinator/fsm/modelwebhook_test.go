package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// modelHook is a webhook; the zero value is none.
type modelHook struct {
	state            protocol.DeliveryState
	attempt, tries   uint32
	due, lastStarted int64
	lines            int
}

type modelSecret struct {
	id        byte
	expires   int64
	automatic bool
}

func (j *modelJob) owes() bool { return j.hook.state == protocol.DeliveryPending }

func hookOf(j *state.Job) modelHook {
	d := j.Webhook()
	if d == nil {
		return modelHook{}
	}
	h := modelHook{state: d.State, attempt: d.Attempt, tries: d.Tries, due: d.NextMs, lines: len(d.Log)}
	if len(d.Log) > 0 {
		h.lastStarted = d.Log[len(d.Log)-1].StartedMs
	}
	return h
}

func (m *model) tried(n int) uint32 {
	if j := m.jobs[job(n)]; j != nil {
		return j.hook.attempt
	}
	return 0
}

func (m *model) recordDelivery(r *command.RecordDelivery) command.Result {
	j := m.jobs[protocol.JobID(r.Job)]
	switch {
	case j == nil:
		return answer(protocol.CodeJobNotFound)
	case j.hook.state == 0 || j.run != r.Run:
		return answer(protocol.CodeConflict)
	case j.hook.attempt == r.Attempt && j.hook.lastStarted == r.StartedMs:
		return command.Result{Replayed: true}
	case !j.owes() || j.hook.attempt+1 != r.Attempt:
		return answer(protocol.CodeConflict)
	}
	j.hook.attempt++
	j.hook.tries++
	j.hook.due, j.hook.lastStarted, j.hook.lines = r.NextMs, r.StartedMs, min(j.hook.lines+1, protocol.WebhookLog)
	j.hook.state = map[command.RecordDelivery_Outcome]protocol.DeliveryState{
		command.RecordDelivery_DELIVERED: protocol.DeliveryDelivered, command.RecordDelivery_RETRY: protocol.DeliveryPending,
		command.RecordDelivery_FAILED: protocol.DeliveryFailed, command.RecordDelivery_DISABLED: protocol.DeliveryDisabled,
	}[r.Outcome]
	return command.Result{}
}

func (m *model) redeliver(r *command.Redeliver) command.Result {
	j := m.jobs[protocol.JobID(r.Job)]
	switch {
	case j == nil || j.org != r.Org:
		return answer(protocol.CodeJobNotFound)
	case !j.callback || !j.status.Terminal() || j.hook.attempt != r.ExpectAttempt:
		return answer(protocol.CodeConflict)
	case j.owes() && j.hook.tries == 0 && j.hook.due <= m.clock:
		return command.Result{Replayed: true}
	}
	j.hook.state, j.hook.tries, j.hook.due = protocol.DeliveryPending, 0, m.clock
	return command.Result{}
}

func (m *model) putSecret(p *command.PutWebhookSecret) command.Result {
	live := slices.DeleteFunc(slices.Clone(m.secrets[p.Org]), func(s modelSecret) bool { return s.expires != 0 && s.expires <= m.clock })
	if slices.ContainsFunc(live, func(s modelSecret) bool { return s.id == p.Id[15] }) {
		return command.Result{Replayed: true}
	}
	if p.Automatic && len(live) > 0 {
		return answer(protocol.CodeConflict)
	}
	live = slices.DeleteFunc(live, func(s modelSecret) bool { return s.automatic })
	if len(live) > 0 && !p.Rotate || len(live) == 2 {
		return answer(protocol.CodeConflict)
	}
	for i := range live {
		if live[i].expires == 0 || live[i].expires > m.clock+p.OverlapMs {
			live[i].expires = m.clock + p.OverlapMs
		}
	}
	m.secrets[p.Org] = append(live, modelSecret{id: p.Id[15], automatic: p.Automatic})
	return command.Result{CreatedMs: m.clock}
}

func (m *model) dropSecret(d *command.DropWebhookSecret) command.Result {
	before := m.secrets[d.Org]
	after := slices.DeleteFunc(slices.Clone(before), func(s modelSecret) bool { return s.id == d.Id[15] })
	m.secrets[d.Org] = after
	return command.Result{Replayed: len(after) == len(before)}
}

func (m *model) secretDifferences(v *state.View) []string {
	var out []string
	for _, org := range []string{org1, org2} {
		var got []modelSecret
		if s := v.WebhookSecrets(org); s != nil {
			for _, one := range s.List {
				got = append(got, modelSecret{one.ID[15], one.ExpiresMs, one.Automatic})
			}
		}
		if want := m.secrets[org]; !slices.Equal(got, want) {
			out = append(out, fmt.Sprintf("secrets of %s: got %+v, want %+v", org, got, want))
		}
	}
	return out
}

// randomWebhook draws a command about webhooks, mostly how an attempt went.
func (m *model) randomWebhook(t *rapid.T, n int, run uint32, org string) *command.Command {
	switch rapid.SampledFrom([]string{"record", "record", "record", "redeliver", "put", "drop"}).Draw(t, "webhook") {
	case "redeliver":
		return redeliver(n, org, m.tried(n)+uint32(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "tried")))
	case "put":
		return randomSecret(t, org)
	case "drop":
		return dropSecret(rapid.IntRange(1, 4).Draw(t, "secret"), org)
	}
	return m.randomRecord(t, n, run)
}

// randomRecord draws how the next attempt went, mostly.
func (m *model) randomRecord(t *rapid.T, n int, run uint32) *command.Command {
	attempt := m.tried(n) + uint32(rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(t, "deliveryAttempt"))
	outcome := command.RecordDelivery_Outcome(rapid.SampledFrom([]int{2, 2, 2, 1, 3, 4}).Draw(t, "deliveryOutcome"))
	return recordDelivery(n, run, max(attempt, 1), outcome, func(r *command.RecordDelivery) {
		r.StartedMs = int64(rapid.IntRange(1, 2).Draw(t, "started"))
	})
}

func recordDelivery(n int, run, attempt uint32, outcome command.RecordDelivery_Outcome, change ...func(*command.RecordDelivery)) *command.Command {
	r := &command.RecordDelivery{Job: raw(job(n)), Run: run, Attempt: attempt, Outcome: outcome, StartedMs: 5, LatencyMs: 7}
	if outcome == command.RecordDelivery_RETRY {
		r.NextMs = 1_200_000
	}
	for _, c := range change {
		c(r)
	}
	return &command.Command{Op: &command.Command_RecordDelivery{RecordDelivery: r}}
}

func redeliver(n int, org string, attempt uint32) *command.Command {
	return &command.Command{Op: &command.Command_Redeliver{Redeliver: &command.Redeliver{Job: raw(job(n)), Org: org, ExpectAttempt: attempt}}}
}

func randomSecret(t *rapid.T, org string) *command.Command {
	return putSecret(rapid.IntRange(1, 4).Draw(t, "secret"), org, func(p *command.PutWebhookSecret) {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			p.Automatic = true
		case 1:
			p.Rotate, p.OverlapMs = true, int64(rapid.SampledFrom([]int{0, 1000, 86_400_000}).Draw(t, "overlap"))
		}
	})
}

func putSecret(n int, org string, change ...func(*command.PutWebhookSecret)) *command.Command {
	p := &command.PutWebhookSecret{Id: raw(protocol.SecretID(id16(4, n))), Org: org, Key: bytes.Repeat([]byte{byte(n)}, 32)}
	for _, c := range change {
		c(p)
	}
	return &command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: p}}
}

func dropSecret(n int, org string) *command.Command {
	return &command.Command{Op: &command.Command_DropWebhookSecret{DropWebhookSecret: &command.DropWebhookSecret{Id: raw(protocol.SecretID(id16(4, n))), Org: org}}}
}
