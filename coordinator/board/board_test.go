package board

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// scene is a board over one leased job.
type scene struct {
	*Board
	row   *state.Job
	nowMs int64
	agent protocol.AgentID
}

func newScene() *scene {
	s := &scene{agent: protocol.AgentID{7}, nowMs: 1_000_000}
	s.row = &state.Job{ID: protocol.JobID{1}, Attempt: 1, Index: 10, Status: protocol.StatusInitializing, Lease: &state.Lease{Agent: s.agent}}
	s.Board = New(Config{Job: func(protocol.JobID) *state.Job { return s.row }, NowMs: func() int64 { return s.nowMs }})
	return s
}

func (s *scene) send(u protocol.AttemptUpdate) protocol.AttemptReply {
	u.Job = s.row.ID
	if u.Attempt == 0 {
		u.Attempt = s.row.Attempt
	}
	return s.Update(s.agent, []protocol.AttemptUpdate{u})[0]
}

func chunks(texts ...string) (out []json.RawMessage) {
	for _, t := range texts {
		out = append(out, json.RawMessage(t))
	}
	return out
}

func TestGapsAreAskedForAgain(t *testing.T) {
	s := newScene()
	if r := s.send(protocol.AttemptUpdate{Chunks: chunks("0", "1")}); r.NextChunk != 2 || r.Code != "" {
		t.Errorf("%+v", r)
	}
	if r := s.send(protocol.AttemptUpdate{ChunkFrom: 5, Chunks: chunks("5")}); r.NextChunk != 2 {
		t.Errorf("after a gap: %+v", r)
	}
	if r := s.send(protocol.AttemptUpdate{ChunkFrom: 1, Chunks: chunks("1", "2", "3")}); r.NextChunk != 4 {
		t.Errorf("after an overlap: %+v", r)
	}
	var got []string
	for _, item := range s.Chunks(s.row.ID, 1, 1) {
		got = append(got, string(item.Value))
	}
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("%v", got)
	}
}

func TestStaleUpdatesChangeNothing(t *testing.T) {
	s := newScene()
	s.send(protocol.AttemptUpdate{StartedMs: 5})
	for name, u := range map[string]protocol.AttemptUpdate{"older": {Attempt: 3}, "newer": {Attempt: 2}} {
		if r := s.send(u); r.Code != protocol.CodeStaleAttempt {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := s.Update(protocol.AgentID{9}, []protocol.AttemptUpdate{{Job: protocol.JobID{2}, Attempt: 1}}); r[0].Code != protocol.CodeStaleAttempt {
		t.Errorf("another agent: %+v", r)
	}
	// The job ends, is observed, and a late report comes.
	s.row = &state.Job{ID: s.row.ID, Attempt: 1, Index: 11, Status: protocol.StatusCompleted}
	s.Observe(&state.Changes{Index: 11, List: []state.Change{{Job: s.row}}})
	if r := s.send(protocol.AttemptUpdate{StartedMs: 5}); r.Code != protocol.CodeStaleAttempt || s.Stats().Attempts != 0 {
		t.Errorf("%+v, %+v", r, s.Stats())
	}
}

func TestSoftStateMerges(t *testing.T) {
	s := newScene()
	percent := 40.0
	s.send(protocol.AttemptUpdate{StartedMs: 500, Substate: protocol.SubstateProcessing,
		Progress: &protocol.Progress{Percent: &percent, Step: "a", Metrics: map[string]float64{"x": 1}}})
	before, _ := s.Get(s.row.ID, 1)
	s.nowMs += 2000
	s.send(protocol.AttemptUpdate{StartedMs: 2500, Progress: &protocol.Progress{Step: "b", Metrics: map[string]float64{"y": 2}}})
	after, ok := s.Get(s.row.ID, 1)
	if !ok || after.StartedMs != 999_500 || *after.Progress.Percent != 40 || after.Progress.Step != "b" || len(after.Progress.Metrics) != 2 || after.Seq <= before.Seq {
		t.Errorf("%+v %+v", after, after.Progress)
	}
	if before.Progress.Step != "a" || len(before.Progress.Metrics) != 1 {
		t.Error("what was shown has changed")
	}
	if _, ok := s.Get(s.row.ID, 2); ok {
		t.Error("another attempt has this one's state")
	}
}

func TestANewLeaderContinuesAboveTheOldOne(t *testing.T) {
	old, fresh := newScene(), newScene()
	for range 10 {
		old.send(protocol.AttemptUpdate{Chunks: chunks("0")})
	}
	fresh.nowMs += 1000
	fresh.send(protocol.AttemptUpdate{Chunks: chunks("0")})
	if a, b := old.Revision(old.row), fresh.Revision(fresh.row); b.Compare(a) <= 0 {
		t.Errorf("%v after %v", b, a)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	s := newScene()
	big := json.RawMessage(`"` + strings.Repeat("x", 100<<10) + `"`)
	for i := range 100 {
		s.send(protocol.AttemptUpdate{ChunkFrom: uint64(i), Chunks: []json.RawMessage{big}})
		s.send(protocol.AttemptUpdate{LogFrom: uint64(3 * i), Logs: make([]protocol.LogLine, 3)})
	}
	if b := s.Stats().Bytes; b > logBytes+chunkBytes {
		t.Errorf("%d bytes are held", b)
	}
	if n := len(s.Logs(s.row.ID, 1, 0)); n != protocol.LogTail {
		t.Errorf("%d lines are held", n)
	}
	kept := s.Chunks(s.row.ID, 1, 0)
	if kept[len(kept)-1].N != 99 || kept[0].N == 0 {
		t.Errorf("chunks %d to %d are held", kept[0].N, kept[len(kept)-1].N)
	}
	s.Forget(s.row.ID)
	if st := s.Stats(); st.Bytes != 0 || st.Attempts != 0 {
		t.Errorf("%+v", st)
	}
}

func TestResume(t *testing.T) {
	s := newScene()
	s.send(protocol.AttemptUpdate{Chunks: chunks("0"), Logs: make([]protocol.LogLine, 1)})
	at, _ := s.Get(s.row.ID, 1)
	s.send(protocol.AttemptUpdate{ChunkFrom: 1, Chunks: chunks("1", "2")})
	if log, chunk := s.Resume(s.row.ID, 1, at.Seq); log != 1 || chunk != 1 {
		t.Errorf("log %d, chunk %d", log, chunk)
	}
	if log, chunk := s.Resume(s.row.ID, 1, 0); log != 0 || chunk != 0 {
		t.Errorf("log %d, chunk %d", log, chunk)
	}
}

func TestSignalsMerge(t *testing.T) {
	s := newScene()
	sub := s.Subscribe(s.row.ID)
	<-sub.C() // the first one is pending at once
	for range 5 {
		s.send(protocol.AttemptUpdate{})
	}
	<-sub.C()
	select {
	case <-sub.C():
		t.Error("five changes are two signals")
	default:
	}
	sub.Close()
	sub.Close()
	s.send(protocol.AttemptUpdate{})
	select {
	case <-sub.C():
		t.Error("a closed subscription is signalled")
	default:
	}
	if s.Stats().Streams != 0 {
		t.Error("the subscription is still counted")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := newScene()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	cancel()
	s.Run(ctx, state.New())
}
