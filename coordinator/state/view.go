package state

import (
	"bytes"

	"github.com/hashicorp/go-memdb"

	"windlass/protocol"
)

// View is the state as it was after one batch. It never changes, costs nothing
// to take, and may be read by many goroutines.
type View struct {
	tables *memdb.Txn
	feed   *feed
	meta   Meta
	bytes  int64

	segments []*Segment // in the order of their numbers; replaced, never changed
	apiKeys  []*APIKey  // in the order of their ids; replaced, never changed
	ended    ended
}

// Index returns the raft index of the newest batch in the view.
func (v *View) Index() uint64 { return v.meta.Index }

// ClockMs returns the FSM clock in Unix milliseconds.
func (v *View) ClockMs() int64 { return v.meta.ClockMs }

// Settings returns the replicated limits.
func (v *View) Settings() Settings { return v.meta.Settings }

// Meta returns what the state knows beside its rows.
func (v *View) Meta() Meta { return v.meta }

// Bytes returns the exact size of all rows, by the same formula on every node.
func (v *View) Bytes() int64 { return v.bytes }

// Job returns a job, or nil.
func (v *View) Job(id protocol.JobID) *Job {
	return first[Job](v.tables, tableJobs, &id)
}

// Endpoint returns an endpoint, or nil.
func (v *View) Endpoint(org, id string) *Endpoint {
	return first[Endpoint](v.tables, tableEndpoints, &endpointID{org, id})
}

// Endpoints returns the endpoints of one organisation, or of all when org is
// empty, sorted by organisation and id.
func (v *View) Endpoints(org string) []*Endpoint {
	var out []*Endpoint
	for e := range rows[Endpoint](v.tables, tableEndpoints, &endpointID{org: org}) {
		if org != "" && e.Org != org {
			break
		}
		out = append(out, e)
	}
	return out
}

// Agent returns an agent, or nil.
func (v *View) Agent(id protocol.AgentID) *Agent {
	return first[Agent](v.tables, tableAgents, &id)
}

// Agents returns all agents, sorted by id.
func (v *View) Agents() []*Agent {
	var out []*Agent
	for a := range rows[Agent](v.tables, tableAgents, &protocol.AgentID{}) {
		out = append(out, a)
	}
	return out
}

// Jobs calls fn for the jobs beyond the cursor until it returns false: in
// ascending order of ids, or descending with newestFirst. The cursor is not
// part of the result; the zero id starts at the end that comes first.
func (v *View) Jobs(after protocol.JobID, newestFirst bool, fn func(*Job) bool) {
	if !newestFirst {
		for j := range rows[Job](v.tables, tableJobs, &after) {
			if j.ID != after && !fn(j) {
				return
			}
		}
		return
	}
	from := after
	if after.IsZero() {
		copy(from[:], bytes.Repeat([]byte{0xff}, len(from)))
	}
	it, err := v.tables.ReverseLowerBound(tableJobs, indexID, &from)
	must(err)
	for row := it.Next(); row != nil; row = it.Next() {
		if j := row.(*Job); j.ID != after && !fn(j) {
			return
		}
	}
}

// Keys calls fn for every idempotency key, in order, until it returns false.
func (v *View) Keys(fn func(*Key) bool) {
	for k := range rows[Key](v.tables, tableKeys, &keyID{}) {
		if !fn(k) {
			return
		}
	}
}

// KeyExpired reports whether an idempotency key is free.
func (v *View) KeyExpired() bool {
	it, err := v.tables.LowerBound(tableKeys, indexExpires, int64(0))
	must(err)
	row := it.Next()
	return row != nil && row.(*Key).Expired(v.meta.ClockMs)
}

// Queued returns how many jobs of an organisation wait, paused ones too.
func (v *View) Queued(name string) int {
	if o := first[Org](v.tables, tableOrgs, &name); o != nil {
		return o.Queued
	}
	return 0
}

// Idempotent returns the job that a key names, unless the key expired.
func (v *View) Idempotent(org, endpoint, key string) (protocol.JobID, bool) {
	k := first[Key](v.tables, tableKeys, &keyID{org, endpoint, key})
	if k == nil || k.Expired(v.meta.ClockMs) {
		return protocol.JobID{}, false
	}
	return k.Job, true
}

// first reads one row by its primary key.
func first[Row, K any](t *memdb.Txn, table string, key *K) *Row {
	row, err := t.First(table, indexID, key)
	must(err)
	if row == nil {
		return nil
	}
	return row.(*Row)
}

// rows iterates over a table in key order from the given key on.
func rows[Row, K any](t *memdb.Txn, table string, from *K) func(func(*Row) bool) {
	return func(yield func(*Row) bool) {
		it, err := t.LowerBound(table, indexID, from)
		must(err)
		for row := it.Next(); row != nil; row = it.Next() {
			if !yield(row.(*Row)) {
				return
			}
		}
	}
}

// must turns an error of memdb into a panic: it only ever says that the program
// named a table or a key type that the schema lacks.
func must(err error) {
	if err != nil {
		panic("state: " + err.Error())
	}
}
