package fsm

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	org1 = protocol.OrgDefault
	org2 = "org_other"
	ep1  = "ep_echo"
	ep2  = "ep_story"
)

// world is one FSM with a log of its own.
type world struct {
	t     testing.TB
	store *state.Store
	fsm   *FSM
	index uint64
	clock int64
}

func newWorld(t testing.TB) *world {
	store := state.New()
	return &world{t: t, store: store, fsm: New(store), clock: 1_000_000}
}

// log makes the next log of the given commands.
func (w *world) log(cmds ...*command.Command) *raft.Log {
	w.t.Helper()
	data, err := command.Marshal(w.clock, cmds)
	if err != nil {
		w.t.Fatalf("cannot marshal: %v", err)
	}
	w.index++
	return &raft.Log{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data}
}

func (w *world) do(cmds ...*command.Command) []command.Result {
	w.t.Helper()
	return w.fsm.Apply(w.log(cmds...)).([]command.Result)
}

// ok applies one command that must succeed.
func (w *world) ok(c *command.Command) command.Result {
	w.t.Helper()
	r := w.do(c)[0]
	if r.Code != "" {
		w.t.Fatalf("%T was refused: %s %s", c.GetOp(), r.Code, r.Message)
	}
	return r
}

// refused applies one command that must be refused and change nothing.
func (w *world) refused(c *command.Command, code protocol.Code) command.Result {
	w.t.Helper()
	before := w.store.View().Digest()
	r := w.do(c)[0]
	if r.Code != code {
		w.t.Fatalf("%T answered %q (%s), want %s", c.GetOp(), r.Code, r.Message, code)
	}
	if w.store.View().Digest() != before {
		w.t.Fatalf("%T was refused with %s and changed the state", c.GetOp(), code)
	}
	return r
}

// again applies a command that was applied before: it succeeds and changes nothing.
func (w *world) again(c *command.Command) command.Result {
	w.t.Helper()
	r := w.refused(c, "")
	if !r.Replayed {
		w.t.Fatalf("%T was applied again and is not marked as replayed", c.GetOp())
	}
	return r
}

func (w *world) job(n int) *state.Job {
	w.t.Helper()
	j := w.store.Job(job(n))
	if j == nil {
		w.t.Fatalf("job %d does not exist", n)
	}
	return j
}

// ready returns a world with two endpoints and two registered agents.
func ready(t testing.TB) *world {
	w := newWorld(t)
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"builtin"}}`))
	w.ok(putEndpoint(org2, ep2, `{"runtime":{"kind":"builtin"},"queueLimit":2}`))
	w.ok(register(1, 1))
	w.ok(register(2, 1))
	return w
}

func id16(kind byte, n int) (id [16]byte) {
	id[0] = kind
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

func job(n int) protocol.JobID               { return id16(1, n) }
func agent(n int) protocol.AgentID           { return id16(2, n) }
func incarnation(n int) protocol.Incarnation { return id16(3, n) }

func raw[ID ~[16]byte](id ID) []byte { return id[:] }

func submit(n int, change ...func(*command.Submit)) *command.Command {
	s := &command.Submit{
		Job: raw(job(n)), Org: org1, Endpoint: ep1, Priority: uint32(protocol.PriorityNormal),
		Input: &command.Payload{Inline: []byte(`{"n":1}`)}, ExecutionMs: 60_000, TtlMs: 3_600_000,
		MaxAttempts: 3, MaxLosses: 1,
	}
	for _, c := range change {
		c(s)
	}
	return &command.Command{Op: &command.Command_Submit{Submit: s}}
}

func withKey(key string, hash byte) func(*command.Submit) {
	return func(s *command.Submit) {
		s.IdempotencyKey, s.PayloadHash = key, bytes.Repeat([]byte{hash}, 32)
	}
}

func lease(n int, expect uint32, a, inc int) *command.Command {
	return &command.Command{Op: &command.Command_Lease{Lease: &command.Lease{
		Job: raw(job(n)), ExpectAttempt: expect, Agent: raw(agent(a)), Incarnation: raw(incarnation(inc)), Revision: 1, Reason: "free",
	}}}
}

func finish(n int, attempt uint32, a, inc int, outcome protocol.Outcome, change ...func(*command.Finish)) *command.Command {
	f := &command.Finish{
		Job: raw(job(n)), Attempt: attempt, Agent: raw(agent(a)), Incarnation: raw(incarnation(inc)), Outcome: string(outcome),
		StartedMs: 5, EndedMs: 9, NotBeforeMs: 77,
	}
	for _, c := range change {
		c(f)
	}
	return &command.Command{Op: &command.Command_Finish{Finish: f}}
}

func retryable(f *command.Finish) { f.Retryable = true }

func release(n int, attempt uint32, a, inc int, reason command.Release_Reason) *command.Command {
	return &command.Command{Op: &command.Command_Release{Release: &command.Release{
		Job: raw(job(n)), Attempt: attempt, Agent: raw(agent(a)), Incarnation: raw(incarnation(inc)), Reason: reason, NotBeforeMs: 55,
	}}}
}

func expire(n int) *command.Command {
	return &command.Command{Op: &command.Command_ExpireTtl{ExpireTtl: &command.ExpireTTL{Job: raw(job(n))}}}
}

func cancel(n int, org string) *command.Command {
	return &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: raw(job(n)), Org: org}}}
}

func reopen(n int, org string, run uint32) *command.Command {
	return &command.Command{Op: &command.Command_Reopen{Reopen: &command.Reopen{Job: raw(job(n)), Org: org, ExpectRun: run}}}
}

func held(n int, attempt uint32) *command.Held {
	return &command.Held{Job: raw(job(n)), Attempt: attempt}
}

func register(a, inc int, list ...*command.Held) *command.Command {
	return &command.Command{Op: &command.Command_Register{Register: &command.Register{
		Agent: raw(agent(a)), Name: "gpu-1", Incarnation: raw(incarnation(inc)), Org: org1, Held: list, Facts: []byte(`{"slots":2}`),
	}}}
}

func adopt(n int, from uint32, a, inc int) *command.Command {
	return &command.Command{Op: &command.Command_Adopt{Adopt: &command.Adopt{
		Job: raw(job(n)), FromAttempt: from, Agent: raw(agent(a)), Incarnation: raw(incarnation(inc)),
	}}}
}

func putEndpoint(org, id, doc string, change ...func(*command.PutEndpoint)) *command.Command {
	p := &command.PutEndpoint{Org: org, Id: id, Doc: []byte(doc)}
	for _, c := range change {
		c(p)
	}
	return &command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: p}}
}

func deleteEndpoint(org, id string) *command.Command {
	return &command.Command{Op: &command.Command_DeleteEndpoint{DeleteEndpoint: &command.DeleteEndpoint{Org: org, Id: id}}}
}

func putOrg(id string, change ...func(*command.PutOrg)) *command.Command {
	p := &command.PutOrg{Id: id, Name: "Acme", Weight: 1, Create: true}
	for _, c := range change {
		c(p)
	}
	return &command.Command{Op: &command.Command_PutOrg{PutOrg: p}}
}

func deleteOrg(id string) *command.Command {
	return &command.Command{Op: &command.Command_DeleteOrg{DeleteOrg: &command.DeleteOrg{Id: id}}}
}

func key(n int) protocol.KeyID { return id16(4, n) }

func keyHash(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

func createKey(n int, org string, change ...func(*command.CreateKey)) *command.Command {
	k := &command.CreateKey{Id: raw(key(n)), Org: org, Name: "ci", Permissions: []string{"jobs:read"}, Hash: keyHash(byte(n))}
	for _, c := range change {
		c(k)
	}
	return &command.Command{Op: &command.Command_CreateKey{CreateKey: k}}
}

func rotateKey(n int, org string, from, to byte, overlapMs int64) *command.Command {
	return &command.Command{Op: &command.Command_RotateKey{RotateKey: &command.RotateKey{
		Id: raw(key(n)), Org: org, ExpectHash: keyHash(from), Hash: keyHash(to), OverlapMs: overlapMs,
	}}}
}

func revokeKey(n int, org string) *command.Command {
	return &command.Command{Op: &command.Command_RevokeKey{RevokeKey: &command.RevokeKey{Id: raw(key(n)), Org: org}}}
}

func evict(jobs ...int) *command.Command {
	e := &command.Evict{}
	for _, n := range jobs {
		e.Jobs = append(e.Jobs, raw(job(n)))
	}
	return &command.Command{Op: &command.Command_Evict{Evict: e}}
}

func archive(a *command.Archive) *command.Command {
	return &command.Command{Op: &command.Command_Archive{Archive: a}}
}

func dropSegment(endedBefore int64, numbers ...uint64) *command.Command {
	return &command.Command{Op: &command.Command_DropSegment{DropSegment: &command.DropSegment{Numbers: numbers, EndedBeforeMs: endedBefore}}}
}

func recall(n int, record []byte, newest uint64) *command.Command {
	return &command.Command{Op: &command.Command_Recall{Recall: &command.Recall{Job: raw(job(n)), Record: record, Newest: newest}}}
}

func putSettings(maxBytes int64) *command.Command {
	return &command.Command{Op: &command.Command_PutSettings{PutSettings: &command.PutSettings{MaxBytes: maxBytes}}}
}

// memorySink is a raft.SnapshotSink in memory.
type memorySink struct {
	bytes.Buffer
	cancelled bool
}

func (*memorySink) ID() string   { return "memory" }
func (*memorySink) Close() error { return nil }
func (s *memorySink) Cancel() error {
	s.cancelled = true
	return nil
}

func (w *world) persist() []byte {
	w.t.Helper()
	snap, err := w.fsm.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	defer snap.Release()
	var sink memorySink
	if err := snap.Persist(&sink); err != nil {
		w.t.Fatal(err)
	}
	return sink.Bytes()
}

// restored returns a world that continues from a snapshot.
func restored(t testing.TB, data []byte) (*world, error) {
	w := newWorld(t)
	err := w.fsm.Restore(io.NopCloser(bytes.NewReader(data)))
	w.index, w.clock = w.store.View().Index(), w.store.View().ClockMs()
	return w, err
}
