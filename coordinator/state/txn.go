package state

import (
	"fmt"

	"windlass/protocol"
)

// Txn collects what one ApplyBatch changes and writes each changed row once.
// Reads see the batch's own changes. It belongs to one goroutine.
//
// It keeps its rows beside memdb: reading from a memdb write transaction drops
// the transaction's cache of writable nodes, so that every write after a read
// would copy its path again.
type Txn struct {
	store *Store
	base  *View

	meta     Meta
	bytes    int64
	segments []*Segment // the view's, or a copy
	apiKeys  []*APIKey  // the view's, or a copy
	ended    ended

	jobs      table[protocol.JobID, Job]
	endpoints table[endpointID, Endpoint]
	agents    table[protocol.AgentID, Agent]
	keys      table[keyID, Key]
	orgs      table[string, Org]
	secrets   table[string, WebhookSecrets]
	stored    table[storedID, Stored]
	order     []announced
}

// announced is a row that subscribers hear of, in the order of first change.
type announced struct {
	table string
	at    int
}

// Begin opens the transaction of one ApplyBatch. Only the FSM calls it, and one
// at a time.
func (s *Store) Begin() *Txn {
	if s.txn == nil {
		s.txn = &Txn{store: s}
	}
	t := s.txn
	t.base = s.view.Load()
	t.begin()
	return t
}

// Reading returns a transaction over a view that is never applied. It must only
// read, and belongs to its caller.
func (v *View) Reading() *Txn {
	t := &Txn{base: v}
	t.begin()
	return t
}

func (t *Txn) begin() {
	t.meta, t.bytes = t.base.meta, t.base.bytes
	t.segments, t.ended, t.apiKeys = t.base.segments, t.base.ended, t.base.apiKeys
	t.jobs.reset(tableJobs)
	t.endpoints.reset(tableEndpoints)
	t.agents.reset(tableAgents)
	t.keys.reset(tableKeys)
	t.orgs.reset(tableOrgs)
	t.secrets.reset(tableSecrets)
	t.stored.reset(tableStored)
	t.order = t.order[:0]
}

// Job returns a job, or nil.
func (t *Txn) Job(id protocol.JobID) *Job { return t.jobs.get(t.base, id) }

// Endpoint returns an endpoint, or nil. Its counts move on with the transaction.
func (t *Txn) Endpoint(org, id string) *Endpoint {
	return t.endpoints.get(t.base, endpointID{org, id})
}

// Agent returns an agent, or nil.
func (t *Txn) Agent(id protocol.AgentID) *Agent { return t.agents.get(t.base, id) }

// Key returns an idempotency key, or nil; it may have expired.
func (t *Txn) Key(org, endpoint, key string) *Key {
	return t.keys.get(t.base, keyID{org, endpoint, key})
}

// Leased returns the jobs that an agent holds leases of, sorted by id.
func (t *Txn) Leased(agent protocol.AgentID) []protocol.JobID { return t.store.leases[agent] }

// Queued returns how many jobs of an organisation wait, paused ones too.
func (t *Txn) Queued(name string) int {
	if o := t.orgs.get(t.base, name); o != nil {
		return o.Queued
	}
	return 0
}

// Bytes returns the size of all rows.
func (t *Txn) Bytes() int64 { return t.bytes }

// Settings returns the replicated limits.
func (t *Txn) Settings() Settings { return t.meta.Settings }

// SetSettings replaces the replicated limits.
func (t *Txn) SetSettings(s Settings) { t.meta.Settings = s }

// Feature returns the replicated feature level, 0 when none was ever set.
func (t *Txn) Feature() uint32 { return t.meta.Feature }

// SetFeature sets the replicated feature level.
func (t *Txn) SetFeature(level uint32) { t.meta.Feature = level }

// Secret returns the cluster's secret, all zero when there is none.
func (t *Txn) Secret() [32]byte { return t.meta.Secret }

// SetSecret sets the cluster's secret.
func (t *Txn) SetSecret(secret [32]byte) { t.meta.Secret = secret }

// Clock moves the FSM clock forward to the batch's and returns it; it never
// goes back.
func (t *Txn) Clock(batchMs int64) int64 {
	t.meta.ClockMs = max(t.meta.ClockMs, batchMs)
	return t.meta.ClockMs
}

// NextSeq returns the next place in submission order.
func (t *Txn) NextSeq() uint64 {
	t.meta.Seq++
	return t.meta.Seq
}

// FirstRevision returns the revision of a new endpoint. It is above that of
// every deleted one, because an agent may still hold an instance of an endpoint
// with the same name.
func (t *Txn) FirstRevision() uint64 { return t.meta.Revision + 1 }

// PutJob writes a job. The row must not be changed afterwards.
func (t *Txn) PutJob(j *Job) {
	before := t.Job(j.ID)
	if before != nil && j.Attempt < before.Attempt {
		panic(fmt.Sprintf("state: attempt of %s would fall from %d to %d", j.ID, before.Attempt, j.Attempt))
	}
	t.changeJob(j.ID, before, j)
}

// DeleteJob removes a job that exists.
func (t *Txn) DeleteJob(id protocol.JobID) { t.changeJob(id, t.Job(id), nil) }

func (t *Txn) changeJob(id protocol.JobID, before, after *Job) {
	at, fresh := t.jobs.put(t.base, id, after)
	if fresh {
		t.order = append(t.order, announced{tableJobs, at})
	}
	t.store.leases.move(before, after)
	t.replaceStored(before, after)
	t.count(before, -1)
	t.count(after, 1)
	if before != nil && after != nil && t.meta.Feature >= CountedFrom {
		t.countEnd(before, after)
	}
}

// CountedFrom is the feature level from which on every coordinator counts the
// ends of runs: command.FeatureAPI.
const CountedFrom = 3

// countEnd counts a run that ended, or that begins once more.
func (t *Txn) countEnd(before, after *Job) {
	switch {
	case before.Live() && after.Status == protocol.StatusCompleted:
		t.ownEndpoint(after.Org, after.Target).Completed++
	case before.Live() && (after.Status == protocol.StatusFailed || after.Status == protocol.StatusTimeout):
		t.ownEndpoint(after.Org, after.Target).Failed++
	case after.Live() && (after.Run > before.Run || after.Failures > before.Failures || after.Losses > before.Losses):
		t.ownEndpoint(after.Org, after.Target).Retried++
	}
}

// count adds the job to, or takes it from, every sum it is part of.
func (t *Txn) count(j *Job, sign int) {
	if j == nil {
		return
	}
	t.bytes += int64(sign) * j.Size()
	if !j.Live() {
		t.ended.count(j, sign)
		return
	}
	e := t.ownEndpoint(j.Org, j.Target)
	e.Live += sign
	if j.Waits() {
		e.Queued += sign
		o := t.ownOrg(j.Org)
		o.Queued += sign
		if o.Queued < 0 {
			panic("state: organisation " + j.Org + " would have fewer than no waiting jobs")
		}
	}
	if e.Live < 0 || e.Queued < 0 {
		panic("state: endpoint " + j.Org + "/" + j.Target + " would have fewer than no jobs")
	}
}

// ownEndpoint returns the transaction's own copy of an endpoint, to count in.
func (t *Txn) ownEndpoint(org, id string) *Endpoint {
	key := endpointID{org, id}
	if e, ok := t.endpoints.edited(key); ok && e != nil {
		return e
	}
	before := t.Endpoint(org, id)
	if before == nil {
		panic("state: a live job names endpoint " + org + "/" + id + ", which does not exist")
	}
	own := *before
	t.endpoints.put(t.base, key, &own)
	return &own
}

// PutEndpoint writes an endpoint; its counts are the transaction's affair.
func (t *Txn) PutEndpoint(e *Endpoint) {
	own := *e
	own.Live, own.Queued, own.Completed, own.Failed, own.Retried = 0, 0, 0, 0, 0
	if before := t.Endpoint(e.Org, e.ID); before != nil {
		own.Live, own.Queued = before.Live, before.Queued
		own.Completed, own.Failed, own.Retried = before.Completed, before.Failed, before.Retried
	}
	t.changeEndpoint(endpointID{e.Org, e.ID}, &own)
}

// DeleteEndpoint removes an endpoint that exists and has no live jobs.
func (t *Txn) DeleteEndpoint(org, id string) {
	e := t.Endpoint(org, id)
	if e.Live != 0 {
		panic("state: endpoint " + org + "/" + id + " has live jobs")
	}
	t.meta.Revision = max(t.meta.Revision, e.Revision)
	t.changeEndpoint(endpointID{org, id}, nil)
}

func (t *Txn) changeEndpoint(key endpointID, after *Endpoint) {
	before := t.Endpoint(key.org, key.id)
	at, _ := t.endpoints.put(t.base, key, after)
	if t.endpoints.announce(at) {
		t.order = append(t.order, announced{tableEndpoints, at})
	}
	if before != nil {
		t.bytes -= before.Size()
		t.ownOrg(key.org).Endpoints--
	}
	if after != nil {
		t.bytes += after.Size()
		t.ownOrg(key.org).Endpoints++
	}
}

// PutAgent writes an agent.
func (t *Txn) PutAgent(a *Agent) {
	before := t.Agent(a.ID)
	at, fresh := t.agents.put(t.base, a.ID, a)
	if fresh {
		t.order = append(t.order, announced{tableAgents, at})
	}
	if before != nil {
		t.bytes -= before.Size()
	}
	t.bytes += a.Size()
}

// PutKey writes an idempotency key.
func (t *Txn) PutKey(k *Key) { t.changeKey(keyID{k.Org, k.Endpoint, k.Key}, k) }

func (t *Txn) changeKey(id keyID, after *Key) {
	before := t.keys.get(t.base, id)
	t.keys.put(t.base, id, after)
	if before != nil {
		t.bytes -= before.Size()
	}
	if after != nil {
		t.bytes += after.Size()
	}
}
