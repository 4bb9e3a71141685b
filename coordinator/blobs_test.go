package coordinator

import (
	"encoding/hex"
	"testing"
	"time"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/protocol"
)

// collect runs enough rounds for what nothing names to go.
func (s served) collect(t *testing.T) {
	t.Helper()
	for range 6 {
		if err := s.blobs.collector.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func (s served) kept(t *testing.T) map[blob.Digest]bool {
	t.Helper()
	all := map[blob.Digest]bool{}
	if err := s.blobs.store.Walk(t.Context(), func(c blob.Copy) error { all[c.Digest] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// queue submits a job with an input of its own and returns both.
func (s served) queue(t *testing.T, n int) (protocol.JobID, blob.Digest) {
	t.Helper()
	id, err := s.submit(t, n, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	return id, s.store.Job(id).Input.Ref.SHA256
}

// TestPayloadsAreKeptAsLongAsNeeded follows inputs through every way in which a
// job stays or goes; only what no job names any more is collected.
func TestPayloadsAreKeptAsLongAsNeeded(t *testing.T) {
	s := serve(t, t.TempDir(), func(c *Config) { c.Limits.Queue = 1 })
	s.echo(t)
	cancel := func(id protocol.JobID) {
		t.Helper()
		if _, err := s.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	archived, inArchive := s.queue(t, 1)
	cancel(archived)
	for s.store.View().Meta().Feature < command.FeatureArchive {
		rest() // the leader raises it
	}
	mover := &archive.Keeper{
		Keep: s.cfg.Archive.Keep.Std(), Count: 1, Store: s.store, Blobs: s.blobs.store, Archive: s.archive,
		Propose: s.node.Proposer().Propose, NowMs: func() int64 { return s.node.Clock().NowMs() + time.Hour.Milliseconds() },
	}
	if err := mover.Pass(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	segments := s.store.View().Segments()
	if s.store.Job(archived) != nil || len(segments) != 1 {
		t.Fatalf("the job was not archived: %d segments", len(segments))
	}
	evicted, gone := s.queue(t, 2)
	cancel(evicted)
	if _, err := s.node.Proposer().Propose(t.Context(), &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{Jobs: [][]byte{evicted[:]}}}}); err != nil {
		t.Fatal(err)
	}
	ended, inTable := s.queue(t, 3)
	cancel(ended)
	_, waiting := s.queue(t, 4)
	before := s.kept(t)
	if _, err := s.submit(t, 5, 20_000); err == nil {
		t.Fatal("a second job was queued")
	}
	if n := len(s.kept(t)); n != len(before)+1 {
		t.Fatalf("the refused submit stored %d payloads", n-len(before))
	}

	s.collect(t)
	now := s.kept(t)
	for what, d := range map[string]blob.Digest{"archived": inArchive, "in the table": inTable, "waiting": waiting, "a segment": segments[0].SHA256} {
		if !now[d] {
			t.Errorf("%s: it was collected", what)
		}
	}
	if now[gone] || len(now) != 4 {
		t.Errorf("%d payloads are kept, want 4; that of an evicted job: %t", len(now), now[gone])
	}

	mover.NowMs = func() int64 { return s.node.Clock().NowMs() + mover.Keep.Milliseconds() + time.Hour.Milliseconds() }
	if err := mover.Pass(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	if now := s.kept(t); !now[waiting] || len(now) != 1 {
		t.Errorf("%d payloads are kept after the time of all ended jobs, want that of the waiting one: %s", len(now), hex.EncodeToString(waiting[:4]))
	}
}
