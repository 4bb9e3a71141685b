package state

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/go-memdb"

	"windlass/protocol"
)

// Builder makes tables from the rows of a snapshot: organisations, API keys and endpoints first,
// then agents, keys and jobs, each in key order. Counts are derived, not read.
type Builder struct {
	db      *memdb.MemDB
	txn     *memdb.Txn
	leases  leases
	orgs    map[string]*Org
	names   map[string]string
	ends    map[endpointID]*Endpoint
	counted []any // endpoints and organisations, written when their counts are known
	rows    int
	bytes   int64
	ended   ended
	last    struct{ org, apiKey, endpoint, agent, key, secrets, job, stored []byte }

	segments []*Segment
	apiKeys  []*APIKey
}

// rowsPerTxn bounds how many tree nodes a restore keeps as writable.
const rowsPerTxn = 4096

// NewBuilder returns a builder of empty tables.
func NewBuilder() *Builder {
	return &Builder{
		db: newTables(), leases: make(leases), orgs: make(map[string]*Org),
		names: make(map[string]string), ends: make(map[endpointID]*Endpoint),
	}
}

// Intern returns a string equal to s that all rows share.
func (b *Builder) Intern(s string) string {
	if known, ok := b.names[s]; ok {
		return known
	}
	b.names[s] = s
	return s
}

// Org adds an organisation that was written.
func (b *Builder) Org(o *Org) error {
	if err := ascend(&b.last.org, []byte(o.ID)); err != nil {
		return fmt.Errorf("organisation %s %w", o.ID, err)
	}
	if o.Revision == 0 {
		return fmt.Errorf("organisation %s has no revision", o.ID)
	}
	b.orgs[o.ID] = o
	b.counted = append(b.counted, o)
	b.bytes += o.Size()
	return nil
}

// APIKey adds an API key.
func (b *Builder) APIKey(k *APIKey) error {
	if err := ascend(&b.last.apiKey, k.ID[:]); err != nil {
		return fmt.Errorf("API key %s %w", k.ID, err)
	}
	b.apiKeys = append(b.apiKeys, k)
	b.bytes += k.Size()
	return nil
}

// Endpoint adds an endpoint.
func (b *Builder) Endpoint(e *Endpoint) error {
	if err := ascend(&b.last.endpoint, compose(e.Org, e.ID)); err != nil {
		return fmt.Errorf("endpoint %s/%s %w", e.Org, e.ID, err)
	}
	b.ends[endpointID{e.Org, e.ID}] = e
	b.counted = append(b.counted, e)
	b.org(e.Org).Endpoints++
	b.bytes += e.Size()
	return nil
}

// Agent adds an agent.
func (b *Builder) Agent(a *Agent) error {
	if err := ascend(&b.last.agent, a.ID[:]); err != nil {
		return fmt.Errorf("agent %s %w", a.ID, err)
	}
	b.bytes += a.Size()
	return b.insert(tableAgents, a)
}

// Key adds an idempotency key.
func (b *Builder) Key(k *Key) error {
	if err := ascend(&b.last.key, compose(k.Org, k.Endpoint, k.Key)); err != nil {
		return fmt.Errorf("idempotency key of %s/%s %w", k.Org, k.Endpoint, err)
	}
	b.bytes += k.Size()
	return b.insert(tableKeys, k)
}

// WebhookSecrets adds an organisation's webhook secrets.
func (b *Builder) WebhookSecrets(s *WebhookSecrets) error {
	if err := ascend(&b.last.secrets, []byte(s.Org)); err != nil {
		return fmt.Errorf("webhook secrets of %s %w", s.Org, err)
	}
	b.bytes += s.Size()
	return b.insert(tableSecrets, s)
}

// Job adds a job.
func (b *Builder) Job(j *Job) error {
	if err := ascend(&b.last.job, j.ID[:]); err != nil {
		return fmt.Errorf("job %s %w", j.ID, err)
	}
	b.bytes += j.Size()
	if (j.Lease != nil) != (j.Status == protocol.StatusInitializing) {
		return fmt.Errorf("job %s is %s with lease %t", j.ID, j.Status, j.Lease != nil)
	}
	b.leases.move(nil, j)
	if !j.Live() {
		b.ended.count(j, 1)
	} else {
		e := b.ends[endpointID{j.Org, j.Target}]
		if e == nil {
			return fmt.Errorf("job %s names endpoint %s/%s, which does not exist", j.ID, j.Org, j.Target)
		}
		e.Live++
		if j.Waits() {
			e.Queued++
			b.org(j.Org).Queued++
		}
	}
	return b.insert(tableJobs, j)
}

// Stored adds what a job has stored.
func (b *Builder) Stored(s *Stored) error {
	if err := ascend(&b.last.stored, storedID{s.ExpiresMs, s.Job}.key()); err != nil {
		return fmt.Errorf("what job %s has stored %w", s.Job, err)
	}
	b.bytes += s.Size()
	b.org(s.Org).Stored += s.Bytes
	return b.insert(tableStored, s)
}

// Segment adds a segment of the archive.
func (b *Builder) Segment(g *Segment) error {
	if n := len(b.segments); n > 0 && g.Number <= b.segments[n-1].Number || g.Number == 0 {
		return fmt.Errorf("segment %d is out of order or appears twice", g.Number)
	}
	b.segments = append(b.segments, g)
	b.bytes += g.RowSize()
	return nil
}

// ascend refuses a key that is not above the one before it.
func ascend(last *[]byte, key []byte) error {
	if bytes.Compare(key, *last) <= 0 {
		return errors.New("is out of order or appears twice")
	}
	*last = key
	return nil
}

func (b *Builder) org(name string) *Org {
	o := b.orgs[name]
	if o == nil {
		o = &Org{ID: name}
		b.orgs[name] = o
		b.counted = append(b.counted, o)
	}
	return o
}

func (b *Builder) insert(table string, row any) error {
	if b.txn == nil {
		b.txn = b.db.Txn(true)
	}
	if err := b.txn.Insert(table, row); err != nil {
		return fmt.Errorf("cannot insert into %s: %w", table, err)
	}
	if b.rows++; b.rows%rowsPerTxn == 0 {
		b.flush()
	}
	return nil
}

func (b *Builder) flush() {
	if b.txn != nil {
		b.txn.Commit()
		b.txn = nil
	}
}

// store closes the builder.
func (b *Builder) store(meta Meta) *Store {
	for _, row := range b.counted {
		table := tableOrgs
		if _, ok := row.(*Endpoint); ok {
			table = tableEndpoints
		}
		must(b.insert(table, row))
	}
	b.flush()
	s := &Store{db: b.db, leases: b.leases}
	s.view.Store(&View{
		tables: b.db.Txn(false), feed: newFeed(meta.Index), meta: meta, bytes: b.bytes, segments: b.segments, ended: b.ended,
		apiKeys: b.apiKeys,
	})
	return s
}
