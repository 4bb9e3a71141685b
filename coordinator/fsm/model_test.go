package fsm

import (
	"bytes"
	"fmt"
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// model is the reference that the FSM is compared with: the rules of DESIGN 3 in
// the plainest form, with maps and no regard for cost.
type model struct {
	clock     int64
	seq       uint64
	jobs      map[protocol.JobID]*modelJob
	endpoints map[string]*modelEndpoint
	agents    map[protocol.AgentID]protocol.Incarnation
	keys      map[string]modelKey
	deleted   uint64 // highest revision of a deleted endpoint

	segments map[uint64]modelSegment
	newest   uint64
	records  map[protocol.JobID]modelRecord // of the newest state that was archived
	index    map[protocol.JobID]uint64      // of the rows before the command

	secrets map[string][]modelSecret
}

type modelSegment struct {
	hash        byte
	first, last protocol.JobID
	end         int64
}

type modelJob struct {
	org, endpoint     string
	status            protocol.Status
	seq               uint64
	attempt, run      uint32
	failures, losses  int
	created, from     int64 // from: the ttl counts from here
	ttl, notBefore    int64
	retryTimeout      bool
	maxTries, maxLoss int
	agent             protocol.AgentID
	inc               protocol.Incarnation
	adoptable         bool
	code              protocol.Code
	reportedBy        protocol.AgentID // whose Finish of the newest attempt was applied
	lost              bool             // failed because the newest attempt was lost
	key               string
	checkpoint        string
	purge             string // that cancelled it
	callback          bool
	hook              modelHook // of the newest end
}

type modelEndpoint struct {
	doc        string
	revision   uint64
	queueLimit int
	paused     bool
	counts     [3]uint64 // completed, failed, retried
}

type modelKey struct {
	job     protocol.JobID
	hash    byte
	expires int64
	created int64 // of the job, once it left
}

func newModel() *model {
	return &model{
		jobs: make(map[protocol.JobID]*modelJob), endpoints: make(map[string]*modelEndpoint),
		agents: make(map[protocol.AgentID]protocol.Incarnation), keys: make(map[string]modelKey),
		segments: make(map[uint64]modelSegment), records: make(map[protocol.JobID]modelRecord),
		secrets: make(map[string][]modelSecret),
	}
}

func answer(code protocol.Code) command.Result { return command.Result{Code: code} }

func (m *model) apply(clock int64, c *command.Command) command.Result {
	before := m.before()
	r := m.one(clock, c)
	if c.GetRecall() == nil {
		m.counted(before)
	}
	return r
}

func (m *model) one(clock int64, c *command.Command) command.Result {
	m.clock = max(m.clock, clock)
	switch op := c.GetOp().(type) {
	case *command.Command_Submit:
		return m.submit(op.Submit)
	case *command.Command_Lease:
		l := op.Lease
		return m.grant(l.Job, l.ExpectAttempt, l.Agent, l.Incarnation, false)
	case *command.Command_Adopt:
		a := op.Adopt
		return m.grant(a.Job, a.FromAttempt, a.Agent, a.Incarnation, true)
	case *command.Command_Finish:
		return m.finish(op.Finish)
	case *command.Command_Release:
		return m.release(op.Release)
	case *command.Command_Register:
		return m.register(op.Register)
	case *command.Command_ExpireTtl, *command.Command_Cancel, *command.Command_Reopen:
		return m.user(c)
	case *command.Command_PutEndpoint, *command.Command_DeleteEndpoint:
		return m.endpoint(c)
	case *command.Command_Evict:
		var n int64
		for _, raw := range op.Evict.Jobs {
			if j := m.jobs[protocol.JobID(raw)]; j != nil && j.status.Terminal() && !j.owes() {
				m.remove(protocol.JobID(raw))
				n++
			}
		}
		r := command.Result{Count: n, Replayed: n == 0}
		for name, k := range m.keys {
			if k.expires != 0 && k.expires <= m.clock {
				delete(m.keys, name)
				r.Replayed = false
			}
		}
		return r
	case *command.Command_Archive:
		return m.archive(op.Archive)
	case *command.Command_DropSegment:
		var n int64
		for _, number := range op.DropSegment.Numbers {
			if g, ok := m.segments[number]; ok && g.end < op.DropSegment.EndedBeforeMs {
				delete(m.segments, number)
				n++
			}
		}
		return command.Result{Count: n, Replayed: n == 0}
	case *command.Command_Recall:
		return m.recall(op.Recall)
	case *command.Command_Pause, *command.Command_Resume, *command.Command_PauseEndpoint, *command.Command_Purge:
		return m.paused(c)
	case *command.Command_RecordDelivery:
		return m.recordDelivery(op.RecordDelivery)
	case *command.Command_Redeliver:
		return m.redeliver(op.Redeliver)
	case *command.Command_PutWebhookSecret:
		return m.putSecret(op.PutWebhookSecret)
	case *command.Command_DropWebhookSecret:
		return m.dropSecret(op.DropWebhookSecret)
	}
	panic(fmt.Sprintf("the model lacks %T", c.GetOp()))
}

func (m *model) submit(s *command.Submit) command.Result {
	id := protocol.JobID(s.Job)
	if j := m.jobs[id]; j != nil {
		if j.org != s.Org || j.endpoint != s.Endpoint {
			return answer(protocol.CodeConflict)
		}
		return command.Result{Job: id, CreatedMs: j.created, Replayed: true}
	}
	key := s.Org + "/" + s.Endpoint + "/" + s.IdempotencyKey
	if k, ok := m.keys[key]; ok && s.IdempotencyKey != "" && (k.expires == 0 || k.expires > m.clock) {
		if k.hash != s.PayloadHash[0] {
			return answer(protocol.CodeIdempotencyReused)
		}
		created := k.created
		if j := m.jobs[k.job]; j != nil {
			created = j.created
		}
		return command.Result{Job: k.job, CreatedMs: created, Replayed: true}
	}
	if m.endpoints[s.Org+"/"+s.Endpoint] == nil {
		return answer(protocol.CodeEndpointNotFound)
	}
	if r := m.queueFull(s.Org, s.Endpoint, int(s.QueueLimit)); r.Code != "" {
		return r
	}
	m.seq++
	m.jobs[id] = &modelJob{
		org: s.Org, endpoint: s.Endpoint, status: protocol.StatusQueued, seq: m.seq, run: 1,
		created: m.clock, from: m.clock, ttl: s.TtlMs, retryTimeout: s.RetryTimeout,
		maxTries: int(s.MaxAttempts), maxLoss: int(s.MaxLosses), key: s.IdempotencyKey,
		callback: s.CallbackUrl != "",
	}
	if s.IdempotencyKey != "" {
		m.keys[key] = modelKey{job: id, hash: s.PayloadHash[0]}
	}
	return command.Result{Job: id, CreatedMs: m.clock, Run: 1}
}

func (m *model) queueFull(org, endpoint string, limit int) command.Result {
	var inOrg, inEndpoint int
	for _, j := range m.jobs {
		if (j.status == protocol.StatusQueued || j.status == protocol.StatusPaused) && j.org == org {
			inOrg++
			if j.endpoint == endpoint {
				inEndpoint++
			}
		}
	}
	if limit > 0 && inOrg >= limit {
		return command.Result{Code: protocol.CodeQueueFull, Limit: "organisation", Count: int64(inOrg)}
	}
	if l := m.endpoints[org+"/"+endpoint].queueLimit; l > 0 && inEndpoint >= l {
		return command.Result{Code: protocol.CodeQueueFull, Limit: "endpoint", Count: int64(inEndpoint)}
	}
	return command.Result{}
}

func (m *model) grant(rawJob []byte, expect uint32, rawAgent, rawInc []byte, adopting bool) command.Result {
	a, inc := protocol.AgentID(rawAgent), protocol.Incarnation(rawInc)
	current, known := m.agents[a]
	if !known {
		return answer(protocol.CodeUnknownAgent)
	}
	if current != inc {
		return answer(protocol.CodeStaleIncarnation)
	}
	j := m.jobs[protocol.JobID(rawJob)]
	if j != nil && m.fence(j, expect+1, a, inc) {
		return command.Result{Attempt: j.attempt, Replayed: true}
	}
	if j == nil || j.status != protocol.StatusQueued || j.attempt != expect || adopting && !j.adoptable {
		return answer(protocol.CodeConflict)
	}
	j.attempt++
	j.status, j.agent, j.inc, j.adoptable, j.notBefore = protocol.StatusInitializing, a, inc, false, 0
	j.reportedBy = protocol.AgentID{} // of the newest attempt nothing was reported
	return command.Result{Attempt: j.attempt}
}

func (m *model) fence(j *modelJob, attempt uint32, a protocol.AgentID, inc protocol.Incarnation) bool {
	return j != nil && j.status == protocol.StatusInitializing && j.attempt == attempt && j.agent == a && j.inc == inc
}

func (m *model) finish(f *command.Finish) command.Result {
	a := protocol.AgentID(f.Agent)
	j := m.jobs[protocol.JobID(f.Job)]
	if !m.fence(j, f.Attempt, a, protocol.Incarnation(f.Incarnation)) {
		if j != nil && j.attempt == f.Attempt && j.reportedBy == a {
			return command.Result{Replayed: true}
		}
		return answer(protocol.CodeStaleAttempt)
	}
	retry := false
	j.code = protocol.Code(f.ErrorCode)
	switch protocol.Outcome(f.Outcome) {
	case protocol.OutcomeCompleted:
		j.status = protocol.StatusCompleted
	case protocol.OutcomeCancelled:
		j.status, j.code = protocol.StatusCancelled, protocol.CodeCancelled
	case protocol.OutcomePaused:
		j.status = protocol.StatusPaused
		if f.Checkpoint != nil {
			j.checkpoint = string(f.Checkpoint.Inline)
		}
	case protocol.OutcomeTimeout:
		j.failures++
		j.status, j.code = protocol.StatusTimeout, protocol.CodeExecutionTimeout
		retry = j.retryTimeout && j.failures < j.maxTries
	case protocol.OutcomeFailed:
		j.failures++
		j.status = protocol.StatusFailed
		retry = f.Retryable && j.failures < j.maxTries
	}
	if retry {
		j.status, j.notBefore = protocol.StatusQueued, f.NotBeforeMs
	}
	j.reportedBy, j.lost = a, false
	m.ended(protocol.JobID(f.Job), j)
	return command.Result{}
}

func (m *model) release(r *command.Release) command.Result {
	j := m.jobs[protocol.JobID(r.Job)]
	if !m.fence(j, r.Attempt, protocol.AgentID(r.Agent), protocol.Incarnation(r.Incarnation)) {
		if j != nil && j.attempt == r.Attempt && (j.adoptable || j.status == protocol.StatusFailed && j.lost) {
			return command.Result{Replayed: true}
		}
		return answer(protocol.CodeStaleAttempt)
	}
	m.giveBack(protocol.JobID(r.Job), j, r.Reason == command.Release_LOST)
	if j.status == protocol.StatusQueued {
		j.notBefore = r.NotBeforeMs
	}
	return command.Result{}
}

func (m *model) giveBack(id protocol.JobID, j *modelJob, lost bool) {
	if lost {
		j.losses++
	}
	j.reportedBy = protocol.AgentID{}
	if lost && j.losses > j.maxLoss {
		j.status, j.code, j.lost = protocol.StatusFailed, protocol.CodeAgentLost, true
	} else {
		j.status, j.adoptable = protocol.StatusQueued, true
	}
	m.ended(id, j)
}

func (m *model) register(r *command.Register) command.Result {
	a, inc := protocol.AgentID(r.Agent), protocol.Incarnation(r.Incarnation)
	current, known := m.agents[a]
	if known && bytes.Compare(inc[:], current[:]) < 0 {
		return answer(protocol.CodeStaleIncarnation)
	}
	out := command.Result{Replayed: known && current == inc}
	m.agents[a] = inc
	for _, h := range r.Held {
		if j := m.jobs[protocol.JobID(h.Job)]; j != nil && j.status == protocol.StatusInitializing && j.attempt == h.Attempt && j.agent == a {
			j.inc = inc
			out.Current = append(out.Current, protocol.HeldAttempt{Job: protocol.JobID(h.Job), Attempt: h.Attempt})
		}
	}
	for id, j := range m.jobs {
		if j.status == protocol.StatusInitializing && j.agent == a && j.inc != inc {
			m.giveBack(id, j, true)
		}
	}
	return out
}

func (m *model) user(c *command.Command) command.Result {
	var id protocol.JobID
	switch op := c.GetOp().(type) {
	case *command.Command_ExpireTtl:
		id = protocol.JobID(op.ExpireTtl.Job)
		j := m.jobs[id]
		switch {
		case j == nil:
			return answer(protocol.CodeJobNotFound)
		case j.status == protocol.StatusTimeout && j.code == protocol.CodeTTLExpired:
			return command.Result{Replayed: true}
		case j.status != protocol.StatusQueued && j.status != protocol.StatusPaused || j.ttl == 0 || m.clock < j.from+j.ttl:
			return answer(protocol.CodeConflict)
		}
		m.stop(id, j, protocol.StatusTimeout, protocol.CodeTTLExpired)
	case *command.Command_Cancel:
		id = protocol.JobID(op.Cancel.Job)
		j := m.jobs[id]
		switch {
		case j == nil || j.org != op.Cancel.Org:
			return answer(protocol.CodeJobNotFound)
		case j.status == protocol.StatusCancelled:
			return command.Result{Replayed: true}
		case j.status.Terminal():
			return answer(protocol.CodeConflict)
		}
		m.stop(id, j, protocol.StatusCancelled, protocol.CodeCancelled)
	case *command.Command_Reopen:
		return m.reopen(op.Reopen)
	}
	return command.Result{}
}

func (m *model) stop(id protocol.JobID, j *modelJob, status protocol.Status, code protocol.Code) {
	j.status, j.code, j.adoptable, j.notBefore = status, code, false, 0
	j.reportedBy, j.lost, j.purge = protocol.AgentID{}, false, ""
	m.ended(id, j)
}

func (m *model) reopen(r *command.Reopen) command.Result {
	id := protocol.JobID(r.Job)
	j := m.jobs[id]
	switch {
	case j == nil || j.org != r.Org:
		return answer(protocol.CodeJobNotFound)
	case j.run == r.ExpectRun+1:
		return command.Result{Run: j.run, Replayed: true}
	case !j.status.Terminal() || j.run != r.ExpectRun:
		return answer(protocol.CodeConflict)
	case m.endpoints[j.org+"/"+j.endpoint] == nil:
		return answer(protocol.CodeEndpointNotFound)
	}
	if full := m.queueFull(j.org, j.endpoint, 0); full.Code != "" {
		return full
	}
	m.seq++
	j.checkpoint, j.purge = "", ""
	j.status, j.seq, j.from, j.failures, j.losses = protocol.StatusQueued, m.seq, m.clock, 0, 0
	j.run++
	j.code, j.reportedBy, j.lost, j.adoptable = "", protocol.AgentID{}, false, false
	m.ended(id, j)
	return command.Result{Run: j.run}
}

// ended lets the job's key expire a day after its end, and keeps it before. An
// end begins the webhook, and a new run forgets it.
func (m *model) ended(id protocol.JobID, j *modelJob) {
	if j.status.Terminal() {
		j.checkpoint = ""
	}
	j.hook = modelHook{}
	if j.status.Terminal() && j.callback {
		j.hook = modelHook{state: protocol.DeliveryPending, due: m.clock}
	}
	name := j.org + "/" + j.endpoint + "/" + j.key
	if k, ok := m.keys[name]; ok && k.job == id && j.key != "" {
		switch {
		case j.status.Terminal():
			k.expires, k.created = m.clock+86_400_000, 0
		case j.run > 1:
			k.expires, k.created = 0, 0
		}
		m.keys[name] = k
	}
}

func (m *model) endpoint(c *command.Command) command.Result {
	if d := c.GetDeleteEndpoint(); d != nil {
		name := d.Org + "/" + d.Id
		e := m.endpoints[name]
		if e == nil {
			return answer(protocol.CodeEndpointNotFound)
		}
		for _, j := range m.jobs {
			if j.org+"/"+j.endpoint == name && !j.status.Terminal() {
				return answer(protocol.CodeEndpointInUse)
			}
		}
		m.deleted = max(m.deleted, e.revision)
		delete(m.endpoints, name)
		return command.Result{}
	}
	p := c.GetPutEndpoint()
	name, next, kept := p.Org+"/"+p.Id, m.deleted+1, modelEndpoint{}
	if e := m.endpoints[name]; e != nil {
		switch {
		case e.doc == string(p.Doc):
			return command.Result{Revision: e.revision, Replayed: true}
		case p.Create || p.ExpectRevision != 0 && p.ExpectRevision != e.revision:
			return answer(protocol.CodeConflict)
		}
		next, kept = e.revision+1, *e
	} else if p.ExpectRevision != 0 {
		return answer(protocol.CodeEndpointNotFound)
	}
	m.endpoints[name] = &modelEndpoint{doc: string(p.Doc), revision: next, queueLimit: queueLimits[string(p.Doc)], paused: kept.paused, counts: kept.counts}
	return command.Result{Revision: next}
}

// queueLimits are the documents that the model test uses, with their limit.
var queueLimits = map[string]int{
	`{"runtime":{"kind":"builtin"}}`:                0,
	`{"runtime":{"kind":"builtin"},"queueLimit":2}`: 2,
	`{"runtime":{"kind":"command"},"queueLimit":3}`: 3,
}

// differences compares the model with a view.
func (m *model) differences(v *state.View) []string {
	var out []string
	seen := 0
	queued := make(map[string]int)
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		seen++
		if j.Status == protocol.StatusQueued || j.Status == protocol.StatusPaused {
			queued[j.Org]++
		}
		w := m.jobs[j.ID]
		if w == nil {
			out = append(out, fmt.Sprintf("%s exists", j.ID))
			return true
		}
		var got, want modelJob
		want = *w
		want.reportedBy, want.lost, want.key = protocol.AgentID{}, false, ""
		if want.status != protocol.StatusInitializing {
			want.agent, want.inc = protocol.AgentID{}, protocol.Incarnation{}
		}
		got = modelJob{
			org: j.Org, endpoint: j.Target, status: j.Status, seq: j.Seq, attempt: j.Attempt, run: j.Run,
			failures: int(j.Failures), losses: int(j.Losses), created: j.CreatedMs, from: j.ExpiresAtMs() - j.TTLMs,
			ttl: j.TTLMs, notBefore: j.NotBeforeMs, retryTimeout: j.RetryTimeout,
			maxTries: int(j.MaxAttempts), maxLoss: int(j.MaxLosses), adoptable: j.Adoptable,
		}
		if j.Outcome != nil {
			got.code = j.Outcome.ErrCode
		}
		if j.Extra != nil {
			got.checkpoint = string(j.Extra.Checkpoint.Inline)
		}
		if j.Outcome != nil && j.Outcome.ErrDetails != nil {
			got.purge = string(j.Outcome.ErrDetails[len(`{"purge":"`):len(`{"purge":"prg_a`)])
		}
		got.callback, got.hook = j.Extra != nil && j.Extra.CallbackURL != "", hookOf(j)
		if j.Lease != nil {
			got.agent, got.inc = j.Lease.Agent, j.Lease.Incarnation
		}
		if got != want {
			out = append(out, fmt.Sprintf("%s:\n got %+v\nwant %+v", j.ID, got, want))
		}
		return true
	})
	if seen != len(m.jobs) {
		out = append(out, fmt.Sprintf("%d jobs, want %d", seen, len(m.jobs)))
	}
	for _, name := range []string{org1, org2} {
		if v.Queued(name) != queued[name] {
			out = append(out, fmt.Sprintf("%s counts %d queued, there are %d", name, v.Queued(name), queued[name]))
		}
	}
	out = append(out, m.endpointDifferences(v)...)
	keys := 0
	v.Keys(func(k *state.Key) bool {
		keys++
		w, ok := m.keys[k.Org+"/"+k.Endpoint+"/"+k.Key]
		if got := (modelKey{k.Job, k.Hash[0], k.ExpiresMs, k.CreatedMs}); !ok || got != w {
			out = append(out, fmt.Sprintf("key %s: got %+v, want %+v", k.Key, got, w))
		}
		return true
	})
	out = append(out, m.archiveDifferences(v)...)
	out = append(out, m.secretDifferences(v)...)
	if keys != len(m.keys) {
		out = append(out, fmt.Sprintf("%d keys, want %d", keys, len(m.keys)))
	}
	return out
}

func (m *model) endpointDifferences(v *state.View) []string {
	var out []string
	list := v.Endpoints("")
	if len(list) != len(m.endpoints) {
		out = append(out, fmt.Sprintf("%d endpoints, want %d", len(list), len(m.endpoints)))
	}
	for _, e := range list {
		var live, queued int
		for _, j := range m.jobs {
			if j.org == e.Org && j.endpoint == e.ID && !j.status.Terminal() {
				live++
				if j.status == protocol.StatusQueued || j.status == protocol.StatusPaused {
					queued++
				}
			}
		}
		w := m.endpoints[e.Org+"/"+e.ID]
		if w == nil || w.revision != e.Revision || e.Doc.Revision != e.Revision || live != e.Live || queued != e.Queued ||
			w.paused != e.Doc.Paused || w.counts != [3]uint64{e.Completed, e.Failed, e.Retried} {
			out = append(out, fmt.Sprintf("endpoint %+v, want %+v with %d live and %d queued", e, w, live, queued))
		}
	}
	if !slices.IsSortedFunc(list, func(a, b *state.Endpoint) int { return bytes.Compare([]byte(a.Org+a.ID), []byte(b.Org+b.ID)) }) {
		out = append(out, "endpoints are not sorted")
	}
	return out
}
