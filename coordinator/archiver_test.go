package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// history is an archiver over a state machine without raft, in virtual time.
type history struct {
	*archiver
	t     *testing.T
	fsm   *fsm.FSM
	blobs *brokenStore
	skew  time.Duration // of the clock, ahead of the bubble's

	mu     sync.Mutex
	index  uint64
	drop   int // proposals that are applied and whose answer is lost
	failed []error
}

// brokenStore is a folder that a test can take away.
type brokenStore struct {
	*blob.Dir
	mu   sync.Mutex
	err  error
	hang chan struct{}
	puts int
}

func (s *brokenStore) Put(ctx context.Context, r io.Reader, want *blob.Digest, max int64) (blob.Digest, int64, error) {
	s.mu.Lock()
	err, hang := s.err, s.hang
	s.puts++
	s.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return blob.Digest{}, 0, ctx.Err()
		}
	}
	if err != nil {
		return blob.Digest{}, 0, err
	}
	return s.Dir.Put(ctx, r, want, max)
}

func (s *brokenStore) set(err error, hang chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.hang = err, hang
}

func newHistory(t *testing.T) *history {
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	store := state.New()
	h := &history{t: t, fsm: fsm.New(store), blobs: &brokenStore{Dir: dir}}
	h.archiver = &archiver{
		Keeper: &archive.Keeper{
			After: time.Hour, Keep: defaultKeep, Count: defaultCount, Store: store, Blobs: h.blobs, Propose: h.apply, NowMs: h.now,
		},
		tick: archiveTick,
		failed: func(err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.failed = append(h.failed, err)
		},
	}
	h.reopenArchive()
	h.do(&command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{
		Org: protocol.OrgDefault, Id: "ep_echo", Create: true, Doc: []byte(`{"kind":"Endpoint","id":"ep_echo","runtime":{"kind":"builtin"}}`),
	}}})
	h.do(&command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureMax}}})
	return h
}

// reopenArchive forgets what lookups have cached.
func (h *history) reopenArchive() {
	a, err := archive.New(archive.Config{Blobs: h.blobs, Keep: h.Keep, NowMs: h.now})
	if err != nil {
		h.t.Fatal(err)
	}
	h.Archive = a
}

func (h *history) now() int64 { return time.Now().Add(h.skew).UnixMilli() }

var errLost = errors.New("the answer was lost")

func (h *history) apply(_ context.Context, cmds ...*command.Command) ([]command.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := command.Marshal(h.now(), cmds)
	if err != nil {
		return nil, err
	}
	h.index++
	r := h.fsm.ApplyBatch([]*raft.Log{{Index: h.index, Type: raft.LogCommand, Data: data}})[0].([]command.Result)
	if h.drop > 0 {
		h.drop--
		return nil, errLost
	}
	return r, nil
}

func (h *history) do(c *command.Command) command.Result {
	h.t.Helper()
	r, err := h.apply(h.t.Context(), c)
	if err != nil || r[0].Code != "" {
		h.t.Fatalf("%v: %v %v", c, r, err)
	}
	return r[0]
}

func (h *history) submit(input string) protocol.JobID {
	h.t.Helper()
	id := protocol.NewJobID(time.UnixMilli(h.now()))
	h.do(&command.Command{Op: &command.Command_Submit{Submit: &command.Submit{
		Job: id[:], Org: protocol.OrgDefault, Endpoint: "ep_echo", Priority: uint32(protocol.PriorityNormal),
		Input: &command.Payload{Inline: []byte(input)}, ExecutionMs: 1000, TtlMs: 86_400_000, MaxAttempts: 1, MaxLosses: 1,
		IdempotencyKey: id.String(), PayloadHash: make([]byte, 32),
	}}})
	return id
}

func (h *history) ended(input string) protocol.JobID {
	h.t.Helper()
	id := h.submit(input)
	h.do(&command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id[:], Org: protocol.OrgDefault}}})
	return id
}

// record returns what memory or the archive has of a job, nil when neither.
func (h *history) record(id protocol.JobID) (record []byte, archived bool) {
	h.t.Helper()
	view := h.Store.View()
	if j := view.Job(id); j != nil {
		return fsm.EncodeJob(j), false
	}
	j, err := h.Archive.Job(h.t.Context(), view, id)
	if err != nil {
		h.t.Fatal(err)
	}
	if j == nil {
		return nil, false
	}
	return fsm.EncodeJob(j), true
}

// begin runs the duty until the function that it returns is called.
func (h *history) begin() (end func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var work sync.WaitGroup
	work.Go(func() { h.run(ctx) })
	return func() {
		cancel()
		work.Wait()
	}
}

// TestThirtyDaysOfJobs follows jobs from their end to their deletion.
func TestThirtyDaysOfJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.tick = time.Minute
		end := h.begin()
		waiting := h.submit(`{}`)
		type kept struct {
			id     protocol.JobID
			record []byte
			ended  time.Time
		}
		var all []kept
		most := 0
		for range 35 * 24 / 2 {
			id := h.ended(`{"some":"input"}`)
			record, _ := h.record(id)
			all = append(all, kept{id, record, time.Now()})
			pass(2 * time.Hour)
			most = max(most, len(h.Store.View().Segments()))
			if jobs, _ := h.Store.View().Ended(); jobs > 1 {
				t.Fatalf("%d ended jobs are in memory two hours after their end", jobs)
			}
		}
		found := 0
		for _, k := range all {
			record, archived := h.record(k.id)
			age := time.Since(k.ended)
			switch {
			case age < defaultKeep && !bytes.Equal(record, k.record):
				t.Fatalf("a job of %s ago is not what it was", age)
			case age >= defaultKeep && record != nil:
				t.Fatalf("a job of %s ago is still found", age)
			case age > 2*time.Hour && record != nil && !archived:
				t.Fatalf("a job of %s ago is still in memory", age)
			}
			if record != nil {
				found++
			}
		}
		oldest := h.Store.View().Segments()[0]
		t.Logf("%d of %d jobs are found in %d segments, at most %d", found, len(all), len(h.Store.View().Segments()), most)
		if most > 80 || h.NowMs()-oldest.NewestEndMs > defaultKeep.Milliseconds()+maxArchivePeriod.Milliseconds() {
			t.Errorf("%d segments, the oldest ended at %d", most, oldest.NewestEndMs)
		}
		if h.Store.Job(waiting) == nil || len(h.failed) > 0 {
			t.Errorf("a waiting job was moved, or passes failed: %v", h.failed)
		}
		if keys := h.keys(); keys > 14 { // a day's, and that of the waiting job
			t.Errorf("%d idempotency keys are kept", keys)
		}
		end()
	})
}

func (h *history) keys() (n int) {
	h.Store.View().Keys(func(*state.Key) bool { n++; return true })
	return n
}

// TestMemoryIsRelievedEarly: by count and by bytes, but never within archive.MinResidence
// of a job's end.
func TestMemoryIsRelievedEarly(t *testing.T) {
	for name, press := range map[string]func(*history){
		"count": func(h *history) { h.Count = 100 },
		"bytes": func(h *history) {
			h.do(&command.Command{Op: &command.Command_PutSettings{PutSettings: &command.PutSettings{MaxBytes: 2 * h.Store.View().Bytes()}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t)
				var ids []protocol.JobID
				for range 200 {
					ids = append(ids, h.ended(`{"some":"input"}`))
					pass(time.Millisecond)
				}
				press(h)
				h.do(&command.Command{Op: &command.Command_Evict{Evict: &command.Evict{}}})
				h.submit(`{"one":"more"}`)
				end := h.begin()
				pass(archive.MinResidence - 2*time.Second)
				if jobs, _ := h.Store.View().Ended(); jobs != 200 {
					t.Errorf("%d jobs are left within %s", jobs, archive.MinResidence)
				}
				pass(5 * time.Second)
				jobs, _ := h.Store.View().Ended()
				if jobs > 100 || h.Pressed(h.Store.View()) {
					t.Errorf("%d jobs are left in memory", jobs)
				}
				for _, id := range ids {
					if record, _ := h.record(id); record == nil {
						t.Fatal("a job is gone")
					}
				}
				if n := len(h.Store.View().Segments()); n > 2 {
					t.Errorf("it took %d segments", n)
				}
				end()
			})
		})
	}
}

// TestStoreThatIsAway: nothing leaves memory before its segment is durable, the
// duty ends with its leadership, and what is past archive.keep goes all the same.
func TestStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.tick, h.Keep = time.Minute, 3*24*time.Hour
		h.reopenArchive()
		h.blobs.set(errors.New("no majority"), nil)
		end := h.begin()
		id := h.ended(`{}`)
		pass(3 * time.Hour)
		if _, archived := h.record(id); archived || h.Store.Job(id) == nil || len(h.Store.View().Segments()) > 0 {
			t.Fatal("a job left memory although no segment was stored")
		}
		h.mu.Lock()
		n := len(h.failed)
		h.mu.Unlock()
		if n == 0 || n > 3*60 {
			t.Errorf("%d passes failed in three hours", n)
		}
		h.blobs.set(nil, make(chan struct{}))
		pass(time.Hour)
		at := time.Now()
		end()
		if waited := time.Since(at); waited > 0 {
			t.Errorf("the end of the leadership waited %s for the store", waited)
		}
		h.blobs.set(errors.New("no majority"), nil)
		end = h.begin()
		pass(h.Keep)
		if record, _ := h.record(id); record != nil {
			t.Error("an expired job waits for the archive")
		}
		second := h.ended(`{}`)
		h.blobs.set(nil, nil)
		pass(2 * time.Hour)
		if _, archived := h.record(second); !archived {
			t.Error("not archived although the store is back")
		}
		end()
	})
}

// TestLostAnswersOfTheLog loses the answer of each proposal in turn: the segment
// may be recorded, some rows may be gone. Nothing is lost and nothing is doubled.
func TestLostAnswersOfTheLog(t *testing.T) {
	for at := range 5 {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t)
			records := make(map[protocol.JobID][]byte)
			for range 3*archive.EvictBatch + 5 {
				id := h.ended(`{}`)
				records[id], _ = h.record(id)
			}
			pass(2 * time.Hour)
			n := 0
			h.Propose = func(ctx context.Context, cmds ...*command.Command) ([]command.Result, error) {
				if n++; n == at+1 {
					h.drop = 1
				}
				return h.apply(ctx, cmds...)
			}
			end := h.begin()
			pass(time.Hour)
			end()
			for id, want := range records {
				if got, archived := h.record(id); !archived || !bytes.Equal(got, want) {
					t.Fatalf("answer %d lost: job is archived: %t, as it was: %t", at, archived, bytes.Equal(got, want))
				}
			}
			view := h.Store.View()
			var walked []protocol.JobID
			for walk := h.Archive.Newest(view, protocol.JobID{}); ; {
				j, err := walk.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if j == nil {
					break
				}
				walked = append(walked, j.ID)
			}
			if len(walked) != len(records) || !slices.IsSortedFunc(walked, func(a, b protocol.JobID) int { return bytes.Compare(b[:], a[:]) }) {
				t.Errorf("walked over %d of %d jobs", len(walked), len(records))
			}
		})
	}
}

// TestOlderClusterKeepsJobsInMemory: no command that an older version does not
// know is proposed before the level is raised.
func TestOlderClusterKeepsJobsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		fresh := state.New()
		b := state.NewBuilder()
		if err := b.Endpoint(h.Store.Endpoint(protocol.OrgDefault, "ep_echo")); err != nil {
			t.Fatal(err)
		}
		fresh.Replace(b, state.Meta{Index: 5, Feature: command.FeatureBase})
		h.Store, h.fsm, h.index = fresh, fsm.New(fresh), 5
		end := h.begin()
		h.ended(`{}`)
		pass(24 * time.Hour)
		if jobs, _ := h.Store.View().Ended(); jobs != 1 || len(h.failed) > 0 {
			t.Errorf("%d jobs in memory, failed: %v", jobs, h.failed)
		}
		h.do(&command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureArchive}}})
		pass(time.Hour)
		if jobs, _ := h.Store.View().Ended(); jobs != 0 {
			t.Errorf("%d jobs in memory after the level was raised", jobs)
		}
		end()
	})
}

// TestBytesOfAnArchivedJob prints what docs/performance.md says of it.
func TestBytesOfAnArchivedJob(t *testing.T) {
	a, err := archive.New(archive.Config{Blobs: blob.Store(new(blob.Dir))})
	if err != nil {
		t.Fatal(err)
	}
	w := a.NewWriter()
	const jobs = 20_000
	var memory int64
	at := time.UnixMilli(1_700_000_000_000)
	for n := range jobs {
		at = at.Add(80 * time.Millisecond)
		j := typicalJob(t, n, at)
		memory += j.Size()
		if err := w.Add(j); err != nil {
			t.Fatal(err)
		}
	}
	file, segment := w.Finish(1)
	each, tail := float64(len(file))/jobs, float64(segment.Size-segment.IndexOffset)/jobs
	t.Logf("in the archive %.0f bytes each, %.1f million jobs per GiB; in memory %d bytes each, and %.1f of the index once archived",
		each, float64(1<<30)/each/1e6, memory/jobs, tail)
	if each > 700 || tail > 4 {
		t.Errorf("an archived job has %.0f bytes, %.1f in the index", each, tail)
	}
}

// typicalJob is a completed job with a prompt, a result of some sentences, what
// was measured, a tag and three lines of log: 300 bytes in, 500 out. The words
// are drawn, so that they compress as text does, or less.
func typicalJob(t *testing.T, n int, at time.Time) *state.Job {
	// 4096 words of some six letters, all as likely: eleven bits a word, which is
	// more than English has.
	heads := []string{"ca", "dra", "li", "gar", "ri", "mo", "fri", "hap", "fo", "yel", "sto", "the", "sing", "win", "a", "be"}
	tails := []string{"stle", "gon", "ttle", "den", "ver", "ning", "end", "py", "rest", "low", "ne", "re", "ing", "dow", "gain", "cause"}
	text := func(length int) string {
		var b []byte
		for s := uint64(n)*2_862_933_555_777_941_757 + uint64(length); len(b) < length; s = s*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407 {
			b = append(append(append(b, heads[s>>60]...), tails[s>>56&15]...), heads[s>>52&15]...)
			b = append(b, ' ')
		}
		return string(b)
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ms := at.UnixMilli()
	agent := protocol.AgentID{1, 2, 3, byte(n % 16)}
	return &state.Job{
		ID: protocol.NewJobID(at), Seq: uint64(n), Index: uint64(3 * n), Org: protocol.OrgDefault, Target: "ep_story",
		CreatedMs: ms, TTLMs: 86_400_000, ExecutionMs: 600_000, Attempt: 1, Run: 1, MaxAttempts: 3, MaxLosses: 3,
		Status: protocol.StatusCompleted, Priority: protocol.PriorityNormal,
		Input: state.Payload{Inline: encode(map[string]any{"prompt": text(250), "maxTokens": 120, "seed": n})},
		Extra: &state.Extra{Tags: []state.Tag{{Key: "customer", Value: tails[n%16]}}},
		Outcome: &state.Outcome{
			Attempt: 1, GrantedMs: ms + 3, StartedMs: ms + 9, EndedMs: ms + 2000 + int64(n%977), Reported: true, Agent: agent, Revision: 1,
			Output: state.Payload{Inline: encode(map[string]any{"text": text(450), "tokens": 100 + n%20})},
			Facts:  encode(map[string]any{"usage": map[string]any{"cpuMs": 100 + n%500, "cpuPercent": float64(n%1000) / 10, "memory": 1_000_000 * (n % 300)}}),
			Logs: state.Payload{Inline: encode([]protocol.LogLine{
				{Time: protocol.Time(ms + 9), Source: "stdout", Line: "loaded"}, {Time: protocol.Time(ms + 100), Source: "stdout", Line: "sampling"},
				{Time: protocol.Time(ms + 1900), Source: "stdout", Line: "done"},
			})},
		},
	}
}
