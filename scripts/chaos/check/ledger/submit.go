package ledger

import (
	"windlass/coordinator/command"
	"windlass/protocol"
)

// keyTerm is how long a key outlives its job, in milliseconds (DESIGN 4).
const keyTerm = 24 * 60 * 60 * 1000

// binding is what an idempotency key names.
type binding struct {
	job   protocol.JobID
	hash  string
	ends  int64 // by the log's clock; 0: while the job lives
	loose bool  // it ended, and then the job was run again: whether it is bound is not promised
}

func keyName(s *command.Submit) string {
	return s.GetOrg() + "\x00" + s.GetEndpoint() + "\x00" + s.GetIdempotencyKey()
}

// key returns what a submit's key names, unless it is free.
func (l *Ledger[N]) key(s *command.Submit) *binding {
	if s.GetIdempotencyKey() == "" {
		return nil
	}
	k := l.keys[keyName(s)]
	if k == nil || k.ends != 0 && k.ends <= l.ClockMs {
		return nil
	}
	return k
}

// keep lets a job's key live as long as the job, and a day more.
func (l *Ledger[N]) keep(j *Job[N]) {
	if j.Submit.GetIdempotencyKey() == "" {
		return
	}
	k := l.keys[keyName(j.Submit)]
	switch {
	case k == nil || k.job != j.ID:
	case j.Status.Terminal():
		k.ends = l.ClockMs + keyTerm
	default:
		k.loose = k.loose || k.ends != 0 && k.ends <= l.ClockMs
		k.ends = 0
	}
}

func (l *Ledger[N]) submit(s *command.Submit, r *command.Result) {
	id := protocol.JobID(s.GetJob())
	key := l.key(s)
	switch {
	case r.Code == protocol.CodeIdempotencyReused:
		if l.cfg.Whole && (key == nil || key.hash == string(s.GetPayloadHash())) {
			l.cfg.Fail("I4", "entry %d refused a submit for its key %q, which is free", l.Index, s.GetIdempotencyKey())
		}
	case r.Code == protocol.CodeQueueFull:
		l.full(s, r)
	case r.Code != "":
	case r.Replayed:
		l.repeated(s, r, key)
	default:
		l.create(s, id, key)
	}
}

// repeated: a submit that is answered as done before names the job of then.
func (l *Ledger[N]) repeated(s *command.Submit, r *command.Result, key *binding) {
	j := l.jobs[r.Job]
	if r.Job != protocol.JobID(s.GetJob()) && (key != nil || l.cfg.Whole) {
		if key == nil || key.job != r.Job || key.hash != string(s.GetPayloadHash()) {
			l.cfg.Fail("I4", "entry %d answered a submit with job %s, which its key %q does not name", l.Index, r.Job, s.GetIdempotencyKey())
		}
	}
	switch {
	case j == nil && l.cfg.Whole:
		l.cfg.Fail("I1", "entry %d answered a submit with job %s as done before, and it does not exist", l.Index, r.Job)
	case j != nil && r.CreatedMs != 0 && r.CreatedMs != j.CreatedMs:
		l.cfg.Fail("I4", "entry %d answered a submit with job %s as created at %d, and it was at %d", l.Index, r.Job, r.CreatedMs, j.CreatedMs)
	}
}

func (l *Ledger[N]) create(s *command.Submit, id protocol.JobID, key *binding) {
	org := s.GetOrg()
	switch limit := l.limit(s); {
	case l.jobs[id] != nil:
		l.cfg.Fail("I4", "entry %d made %s a second time", l.Index, id)
		return
	case key != nil && key.job != id && !key.loose:
		l.cfg.Fail("I4", "entry %d made %s for the key %q of %s", l.Index, id, s.GetIdempotencyKey(), key.job)
	case l.waiting[org] >= limit:
		l.cfg.Fail("I16", "entry %d let job %d wait where %d may", l.Index, l.waiting[org]+1, limit)
	}
	j := &Job[N]{ID: id, Submit: s, Run: 1, CreatedMs: l.ClockMs, WaitsFrom: l.ClockMs}
	l.jobs[id] = j
	if s.GetIdempotencyKey() != "" {
		l.keys[keyName(s)] = &binding{job: id, hash: string(s.GetPayloadHash())}
	}
	l.become(j, protocol.StatusQueued)
}

// limit is how many jobs of a submit's organisation may wait.
func (l *Ledger[N]) limit(s *command.Submit) int {
	for _, n := range []int{l.limits[s.GetOrg()], int(s.GetQueueLimit()), l.cfg.QueueLimit} {
		if n > 0 {
			return n
		}
	}
	return protocol.MaxQueueOrg
}

// full: a 429 says the truth.
func (l *Ledger[N]) full(s *command.Submit, r *command.Result) {
	n := l.waiting[s.GetOrg()]
	if l.cfg.Whole && r.Limit == command.LimitOrg && (n < l.limit(s) || int(r.Count) != n) {
		l.cfg.Fail("I16", "entry %d refused a submit at %d waiting jobs, there are %d and the limit is %d", l.Index, r.Count, n, l.limit(s))
	}
}
