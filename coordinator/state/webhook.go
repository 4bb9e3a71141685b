package state

import (
	"github.com/hashicorp/go-memdb"

	"windlass/protocol"
)

// Delivery is the webhook that tells how a job's run ended. It begins with the
// command that ends the run, so that none can be left out.
type Delivery struct {
	State   protocol.DeliveryState
	Attempt uint32 // newest attempt that was recorded; the fence; only grows
	Tries   uint32 // of them since SinceMs
	Index   uint64 // Job.Index when the run ended
	NextMs  int64  // FSM clock from which the next attempt is due, while pending
	SinceMs int64  // FSM clock at which it became pending

	Log []DeliveryAttempt // the newest, oldest first; at most protocol.WebhookLog
}

// DeliveryAttempt is one attempt to deliver a webhook.
type DeliveryAttempt struct {
	Attempt   uint32
	Status    uint32 // of HTTP; 0: there was no answer
	StartedMs int64
	LatencyMs int64
	Error     string
	Answer    string // the begin of the receiver's answer
}

// WebhookSecrets are what the webhooks of one organisation are signed with, in clear:
// a hash cannot sign.
type WebhookSecrets struct {
	Org  string
	List []WebhookSecret // in the order in which they were made; some may have expired
}

// WebhookSecret is one of them.
type WebhookSecret struct {
	ID        protocol.SecretID
	Key       []byte
	CreatedMs int64
	ExpiresMs int64 // 0: it has no end
	Automatic bool  // nobody has seen it
}

// Live returns the secrets that sign at the given clock, oldest first. A nil
// receiver has none.
func (s *WebhookSecrets) Live(clockMs int64) []WebhookSecret {
	var live []WebhookSecret
	if s != nil {
		for _, one := range s.List {
			if one.ExpiresMs == 0 || clockMs < one.ExpiresMs {
				live = append(live, one)
			}
		}
	}
	return live
}

// Webhook returns the delivery of an ended job, or nil.
func (j *Job) Webhook() *Delivery {
	if j.Live() || j.Outcome == nil {
		return nil
	}
	return j.Outcome.Delivery
}

// Owes reports whether the job's webhook is still to be delivered: the row must
// not leave memory.
func (j *Job) Owes() bool {
	d := j.Webhook()
	return d != nil && d.State == protocol.DeliveryPending
}

// Revised returns the raft index of the newest change of what the job itself is:
// what becomes of its webhook changes the row, and nothing that a status shows.
func (j *Job) Revised() uint64 {
	if d := j.Webhook(); d != nil {
		return d.Index
	}
	return j.Index
}

// WebhookSecrets returns what an organisation's webhooks are signed with, or nil.
func (v *View) WebhookSecrets(org string) *WebhookSecrets {
	return first[WebhookSecrets](v.tables, tableSecrets, &org)
}

// AllWebhookSecrets returns the secrets of all organisations, sorted by name.
func (v *View) AllWebhookSecrets() []*WebhookSecrets {
	var out []*WebhookSecrets
	name := ""
	for s := range rows[WebhookSecrets](v.tables, tableSecrets, &name) {
		out = append(out, s)
	}
	return out
}

// WebhookSecrets returns what an organisation's webhooks are signed with, or nil.
func (t *Txn) WebhookSecrets(org string) *WebhookSecrets { return t.secrets.get(t.base, org) }

// PutWebhookSecrets writes an organisation's secrets; an empty list removes the row.
func (t *Txn) PutWebhookSecrets(s *WebhookSecrets) {
	if before := t.WebhookSecrets(s.Org); before != nil {
		t.bytes -= before.Size()
	}
	after := s
	if len(s.List) == 0 {
		after = nil
	} else {
		t.bytes += after.Size()
	}
	t.secrets.put(t.base, s.Org, after)
}

type secretsIndex struct{}

var _ memdb.SingleIndexer = secretsIndex{}

func (secretsIndex) FromObject(row any) (bool, []byte, error) {
	return true, []byte(row.(*WebhookSecrets).Org), nil
}

func (secretsIndex) FromArgs(args ...any) ([]byte, error) {
	if name, ok := args[0].(*string); ok && len(args) == 1 {
		return []byte(*name), nil
	}
	return nil, badArgs(tableSecrets, args)
}
