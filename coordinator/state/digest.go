package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash"

	"windlass/protocol"
)

// DigestVersion is the encoding that Digest hashes. It is raised with every change
// of it, so that nodes of two versions know that they cannot compare.
const DigestVersion = 3

// Digest returns a hash over every row in key order and over what is beside the
// rows except the raft index and the clock, which move even when every command
// of a batch is refused. Nodes with equal applied index have equal digests.
func (v *View) Digest() [32]byte {
	sum, _ := v.DigestUntil(nil)
	return sum
}

// DigestUntil is Digest, given up when done is closed: then it returns false. A
// million jobs take a second or two.
func (v *View) DigestUntil(done <-chan struct{}) (sum [32]byte, ok bool) {
	d := digest{h: sha256.New(), buf: make([]byte, 0, digestBuffer)}
	d.number(v.meta.Seq)
	d.numbers(v.meta.Revision, v.meta.Segment)
	d.numbers(uint64(v.meta.Settings.MaxBytes), uint64(v.meta.Feature))
	if v.meta.Secret != [32]byte{} {
		d.text("secret") // no organisation and no endpoint begins so
		d.bytes(v.meta.Secret[:])
	}
	v.OrgRows(d.org)
	for _, k := range v.apiKeys {
		d.apiKey(k)
	}
	for _, e := range v.Endpoints("") {
		d.endpoint(e)
	}
	for _, a := range v.Agents() {
		d.agent(a)
	}
	v.Keys(func(k *Key) bool { d.key(k); return true })
	for _, s := range v.AllWebhookSecrets() {
		d.secrets(s)
	}
	d.number(uint64(len(v.segments)))
	for _, g := range v.segments {
		d.segment(g)
	}
	v.Stored(func(s *Stored) bool { d.stored(s); return true })
	n := 0
	for j := range rows[Job](v.tables, tableJobs, &protocol.JobID{}) {
		d.job(j)
		if n++; n%rowsPerTxn == 0 {
			select {
			case <-done:
				return sum, false
			default:
			}
		}
	}
	d.flush()
	d.h.Sum(sum[:0])
	return sum, true
}

// digestBuffer gathers fields for the hash, which likes them in large pieces.
const digestBuffer = 16 << 10

// digest writes fields in an unambiguous form: numbers as 8 bytes, text with
// its length, absent parts as a flag.
type digest struct {
	h   hash.Hash
	buf []byte
}

func (d *digest) number(n uint64) {
	if len(d.buf)+8 > digestBuffer {
		d.flush()
	}
	d.buf = binary.BigEndian.AppendUint64(d.buf, n)
}

func (d *digest) flush() {
	d.h.Write(d.buf)
	d.buf = d.buf[:0]
}

func (d *digest) numbers(list ...uint64) {
	for _, n := range list {
		d.number(n)
	}
}

func (d *digest) bytes(b []byte) {
	d.number(uint64(len(b)))
	if len(d.buf)+len(b) > digestBuffer {
		d.flush()
	}
	if len(b) > digestBuffer {
		d.h.Write(b)
		return
	}
	d.buf = append(d.buf, b...)
}

// text is bytes without a copy on the heap.
func (d *digest) text(s string) {
	if len(s) > digestBuffer/2 {
		d.bytes([]byte(s))
		return
	}
	d.number(uint64(len(s)))
	if len(d.buf)+len(s) > digestBuffer {
		d.flush()
	}
	d.buf = append(d.buf, s...)
}

func (d *digest) texts(list ...string) {
	for _, s := range list {
		d.text(s)
	}
}

func (d *digest) flag(b bool) bool {
	n := uint64(0)
	if b {
		n = 1
	}
	d.number(n)
	return b
}

func (d *digest) json(v any) {
	b, err := json.Marshal(v)
	must(err)
	d.bytes(b)
}

func (d *digest) payload(p Payload) {
	if d.flag(p.Ref != nil) {
		d.bytes(p.Ref.SHA256[:])
		d.number(uint64(p.Ref.Size))
		return
	}
	d.bytes(p.Inline)
}

func (d *digest) job(j *Job) {
	d.bytes(j.ID[:])
	d.numbers(j.Seq, j.Index)
	d.texts(j.Org, j.Target)
	d.numbers(uint64(j.CreatedMs), uint64(j.NotBeforeMs), uint64(j.TTLMs), uint64(j.ExecutionMs))
	d.payload(j.Input)
	d.numbers(uint64(j.Attempt), uint64(j.Run), uint64(j.Failures), uint64(j.Losses),
		uint64(j.MaxAttempts), uint64(j.MaxLosses), uint64(j.Status), uint64(j.Priority))
	if j.Reserved != 0 {
		d.text("reserved")
		d.number(uint64(j.Reserved))
	}
	if j.Cost != 0 {
		d.text("cost") // its length cannot be taken for the flag that follows
		d.number(uint64(j.Cost))
	}
	d.flag(j.RetryTimeout)
	d.flag(j.Adoptable)
	if l := j.Lease; d.flag(l != nil) {
		d.bytes(l.Agent[:])
		d.bytes(l.Incarnation[:])
		d.numbers(uint64(l.GrantedMs), l.Revision)
		d.texts(l.Reason)
	}
	if x := j.Extra; d.flag(x != nil) {
		d.texts(x.CallbackURL, x.CallbackBase, x.IdempotencyKey)
		d.numbers(uint64(x.ReopenedMs), uint64(len(x.Tags)))
		for _, t := range x.Tags {
			d.texts(t.Key, t.Value)
		}
		d.bytes(x.S3Config)
		d.payload(x.Checkpoint)
	}
	if o := j.Outcome; d.flag(o != nil) {
		d.outcome(o)
	}
}

func (d *digest) outcome(o *Outcome) {
	d.numbers(uint64(o.Attempt), uint64(o.GrantedMs), uint64(o.StartedMs), uint64(o.EndedMs), o.Revision)
	d.payload(o.Output)
	d.payload(o.Logs)
	d.payload(o.Chunks)
	d.texts(string(o.ErrCode), o.ErrMessage)
	d.bytes(o.ErrDetails)
	d.bytes(o.Partial)
	d.bytes(o.Facts)
	d.bytes(o.Agent[:])
	d.flag(o.Retryable)
	d.flag(o.Reported)
	if w := o.Delivery; d.flag(w != nil) {
		d.numbers(uint64(w.State), uint64(w.Attempt), uint64(w.Tries), w.Index, uint64(w.NextMs), uint64(w.SinceMs), uint64(len(w.Log)))
		for i := range w.Log {
			a := &w.Log[i]
			d.numbers(uint64(a.Attempt), uint64(a.Status), uint64(a.StartedMs), uint64(a.LatencyMs))
			d.texts(a.Error, a.Answer)
		}
	}
	if o.OutputsUntilMs == 0 && len(o.Files) == 0 {
		return
	}
	d.text("outputs") // its length cannot be taken for that of the id that follows
	d.numbers(uint64(o.OutputsUntilMs), uint64(len(o.Files)))
	for _, f := range o.Files {
		d.text(f.Name)
		d.bytes(f.Blob.SHA256[:])
		d.number(uint64(f.Blob.Size))
	}
}

func (d *digest) secrets(s *WebhookSecrets) {
	d.text(s.Org)
	d.number(uint64(len(s.List)))
	for i := range s.List {
		one := &s.List[i]
		d.bytes(one.ID[:])
		d.bytes(one.Key)
		d.numbers(uint64(one.CreatedMs), uint64(one.ExpiresMs))
		d.flag(one.Automatic)
	}
}

// stored begins with what no job begins with: its id has another length.
func (d *digest) stored(s *Stored) {
	d.texts("stored", s.Org)
	d.bytes(s.Job[:])
	d.numbers(uint64(s.ExpiresMs), uint64(s.Bytes), uint64(len(s.Blobs)))
	for _, b := range s.Blobs {
		d.bytes(b[:])
	}
}

// org and apiKey begin with what no endpoint begins with: a state without such
// rows has the same digest as before there were any.
func (d *digest) org(o *Org) {
	d.texts("", o.ID, o.Name)
	d.numbers(uint64(o.Weight), uint64(o.QueueLimit), uint64(o.MaxRunning), uint64(o.StorageQuota))
	d.flag(o.Credits.Enabled)
	d.numbers(uint64(o.Credits.Balance), uint64(o.Credits.Reserved), uint64(o.CreatedMs), uint64(o.DeletedMs), o.Revision, o.Index)
	for _, id := range o.Credits.Grants {
		d.bytes(id[:])
	}
}

func (d *digest) apiKey(k *APIKey) {
	d.texts("", "", k.Org, k.Name)
	d.bytes(k.ID[:])
	d.number(uint64(len(k.Permissions)))
	for _, p := range k.Permissions {
		d.text(string(p))
	}
	d.number(uint64(len(k.Endpoints)))
	d.texts(k.Endpoints...)
	d.bytes(k.Hash[:])
	d.bytes(k.Older[:])
	d.numbers(uint64(k.OlderMs), uint64(k.CreatedMs), uint64(k.ExpiresMs), uint64(k.RotatedMs), uint64(k.RevokedMs), k.Index)
}

func (d *digest) endpoint(e *Endpoint) {
	d.texts(e.Org, e.ID)
	d.numbers(e.Revision, e.Index, uint64(e.Live), uint64(e.Queued), uint64(len(e.Older)), e.Completed, e.Failed, e.Retried)
	d.json(e.Doc)
	for _, doc := range e.Older {
		d.json(doc)
	}
}

func (d *digest) agent(a *Agent) {
	d.bytes(a.ID[:])
	d.texts(a.Org, a.Name)
	d.bytes(a.Incarnation[:])
	d.json(a.Facts)
	d.numbers(a.Index, uint64(a.SeenMs))
}

func (d *digest) key(k *Key) {
	d.texts(k.Org, k.Endpoint, k.Key)
	d.bytes(k.Job[:])
	d.bytes(k.Hash[:])
	d.numbers(uint64(k.ExpiresMs), uint64(k.CreatedMs))
}

func (d *digest) segment(g *Segment) {
	d.numbers(g.Number, uint64(g.Size), uint64(g.IndexOffset), uint64(g.Jobs), uint64(g.OldestEndMs), uint64(g.NewestEndMs))
	d.bytes(g.SHA256[:])
	d.bytes(g.IndexSHA256[:])
	d.bytes(g.First[:])
	d.bytes(g.Last[:])
}
