package fsm

import (
	"bytes"
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// oweWebhook begins the delivery that tells the end of a changed row's run, in the
// command that ends it, so that none can be left out.
func (s *step) oweWebhook(n *state.Job) {
	if !n.Live() && n.Extra != nil && n.Extra.CallbackURL != "" && s.txn.Feature() >= command.FeatureAPI {
		n.Outcome.Delivery = s.due(nil)
	}
}

// due is a delivery, new or of before, whose attempts begin now.
func (s *step) due(before *state.Delivery) *state.Delivery {
	d := &state.Delivery{Index: s.index}
	if before != nil {
		*d = *before
	}
	d.State, d.Tries, d.NextMs, d.SinceMs = protocol.DeliveryPending, 0, s.clock, s.clock
	return d
}

// recordDelivery takes in how one attempt went. The leader decided what follows
// from it.
func (s *step) recordDelivery(c *command.RecordDelivery) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	if j == nil {
		return notFound()
	}
	d := j.Webhook()
	switch {
	case d == nil || j.Run != c.GetRun():
		return refuse(protocol.CodeConflict, "The job has no webhook for that run")
	case recorded(d, c):
		return replayed()
	case d.State != protocol.DeliveryPending || d.Attempt+1 != c.GetAttempt():
		return refuse(protocol.CodeConflict, "The webhook does not wait for that attempt")
	}
	n := s.copyOf(j)
	next := *d
	next.Attempt, next.Tries, next.NextMs = c.GetAttempt(), d.Tries+1, c.GetNextMs()
	next.State = deliveryState(c.GetOutcome())
	next.Log = append(slices.Clone(d.Log[max(0, len(d.Log)+1-protocol.WebhookLog):]), s.attempt(c))
	s.putDelivery(n, &next)
	return command.Result{}
}

// recorded says whether the newest attempt on record is this one.
func recorded(d *state.Delivery, c *command.RecordDelivery) bool {
	if len(d.Log) == 0 {
		return false
	}
	last := &d.Log[len(d.Log)-1]
	return last.Attempt == c.GetAttempt() && last.StartedMs == c.GetStartedMs() && last.Status == c.GetStatus() && last.Error == c.GetError()
}

// attempt is the line of the log. Above the memory limit the receiver's answer is
// left out: it comes from outside, and completions must always pass.
func (s *step) attempt(c *command.RecordDelivery) state.DeliveryAttempt {
	a := state.DeliveryAttempt{
		Attempt: c.GetAttempt(), Status: c.GetStatus(), StartedMs: c.GetStartedMs(), LatencyMs: c.GetLatencyMs(),
		Error: c.GetError(), Answer: c.GetAnswer(),
	}
	if limit := s.txn.Settings().MaxBytes; limit > 0 && s.txn.Bytes() > limit {
		a.Answer = ""
	}
	return a
}

func deliveryState(o command.RecordDelivery_Outcome) protocol.DeliveryState {
	switch o {
	case command.RecordDelivery_DELIVERED:
		return protocol.DeliveryDelivered
	case command.RecordDelivery_RETRY:
		return protocol.DeliveryPending
	case command.RecordDelivery_DISABLED:
		return protocol.DeliveryDisabled
	}
	return protocol.DeliveryFailed
}

// redeliver begins a webhook's attempts anew, or brings the next one forward.
func (s *step) redeliver(c *command.Redeliver) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil || j.Org != c.GetOrg():
		return notFound()
	case j.Live() || j.Outcome == nil || j.Extra == nil || j.Extra.CallbackURL == "":
		return refuse(protocol.CodeConflict, "The job has not ended, or was submitted without a callback")
	}
	d := j.Webhook()
	switch {
	case d == nil && c.GetExpectAttempt() != 0 || d != nil && d.Attempt != c.GetExpectAttempt():
		return refuse(protocol.CodeConflict, "Another attempt was made meanwhile")
	case j.Owes() && d.Tries == 0 && d.NextMs <= s.clock:
		return replayed()
	}
	n := s.copyOf(j)
	next := s.due(d)
	if d == nil {
		next.Index = j.Index // it ended under a version that sent no webhooks
	}
	s.putDelivery(n, next)
	return command.Result{}
}

func (s *step) putDelivery(n *state.Job, d *state.Delivery) {
	out := *n.Outcome
	out.Delivery = d
	n.Outcome = &out
	s.txn.PutJob(n)
}

// putSecret adds a secret. One that nobody has seen gives way at once; of the
// others at most two live.
func (s *step) putSecret(c *command.PutWebhookSecret) command.Result {
	row := s.txn.WebhookSecrets(c.GetOrg())
	id := protocol.SecretID(c.GetId())
	for _, one := range row.Live(s.clock) {
		if one.ID == id {
			return replayed()
		}
	}
	if s.txn.OrgDeleted(c.GetOrg()) {
		return refuse(protocol.CodeOrgNotFound, "The organisation is deleted")
	}
	live := row.Live(s.clock)
	if c.GetAutomatic() && len(live) > 0 {
		return refuse(protocol.CodeConflict, "The organisation has a webhook secret")
	}
	live = slices.DeleteFunc(live, func(one state.WebhookSecret) bool { return one.Automatic })
	switch {
	case len(live) > 0 && !c.GetRotate():
		return refuse(protocol.CodeConflict, "The organisation has a webhook secret: rotate it")
	case len(live) >= protocol.MaxWebhookSecrets:
		return refuse(protocol.CodeConflict, "Two webhook secrets live already: revoke one of them first")
	}
	for i := range live {
		if end := s.clock + c.GetOverlapMs(); live[i].ExpiresMs == 0 || live[i].ExpiresMs > end {
			live[i].ExpiresMs = end
		}
	}
	live = append(live, state.WebhookSecret{
		ID: id, Key: bytes.Clone(c.GetKey()), CreatedMs: s.clock, Automatic: c.GetAutomatic(),
	})
	s.txn.PutWebhookSecrets(&state.WebhookSecrets{Org: c.GetOrg(), List: live})
	return command.Result{CreatedMs: s.clock}
}

func (s *step) dropSecret(c *command.DropWebhookSecret) command.Result {
	row := s.txn.WebhookSecrets(c.GetOrg())
	if row == nil {
		return replayed()
	}
	id := protocol.SecretID(c.GetId())
	left := slices.DeleteFunc(slices.Clone(row.List), func(one state.WebhookSecret) bool { return one.ID == id })
	if len(left) == len(row.List) {
		return replayed()
	}
	s.txn.PutWebhookSecrets(&state.WebhookSecrets{Org: row.Org, List: left})
	return command.Result{}
}
