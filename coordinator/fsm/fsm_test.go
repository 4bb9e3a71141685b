package fsm

import (
	"errors"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// halts runs fn and returns the error that it panics with.
func halts(t *testing.T, fn func()) (err error) {
	t.Helper()
	defer func() {
		var ok bool
		if err, ok = recover().(error); !ok {
			t.Fatal("it went on")
		}
	}()
	fn()
	return nil
}

func TestUnreadableLogHalts(t *testing.T) {
	w := ready(t)
	before := w.store.View()
	good, bad := w.log(submit(1)), w.log(submit(2))
	bad.Data[len(bad.Data)-1] ^= 1
	if err := halts(t, func() { w.fsm.ApplyBatch([]*raft.Log{good, bad}) }); !errors.Is(err, command.ErrCorrupt) {
		t.Errorf("halted with %v", err)
	}
	if w.store.View() != before {
		t.Error("a part of the batch was published")
	}
}

func TestLogAppliedTwiceHalts(t *testing.T) {
	w := ready(t)
	log := w.log(submit(1))
	w.fsm.Apply(log)
	halts(t, func() { w.fsm.Apply(log) })
}

func TestOtherLogsMoveTheIndexOnly(t *testing.T) {
	w := ready(t)
	before := w.store.View().Digest()
	w.index++
	out := w.fsm.ApplyBatch([]*raft.Log{{Index: w.index, Type: raft.LogConfiguration, Data: []byte("not ours")}})
	if len(out) != 1 || out[0] != nil {
		t.Errorf("answered %v", out)
	}
	if v := w.store.View(); v.Index() != w.index || v.Digest() != before {
		t.Errorf("index %d, want %d", v.Index(), w.index)
	}
	if out := w.fsm.ApplyBatch(nil); len(out) != 0 {
		t.Errorf("nothing answered %v", out)
	}
}

func TestChangesOfOneBatch(t *testing.T) {
	w := ready(t)
	w.ok(submit(9))
	w.ok(cancel(9, org1))
	cursor := w.store.Subscribe(w.store.View().Index())
	results := w.fsm.ApplyBatch([]*raft.Log{
		w.log(submit(2), submit(1)),
		w.log(lease(2, 0, 1, 1), lease(7, 0, 1, 1), evict(9)),
		w.log(register(2, 2), putEndpoint(org2, "ep_new", `{"runtime":{"kind":"builtin"}}`)),
		w.log(deleteEndpoint(org2, ep2), submit(3), cancel(3, org1), evict(3)),
	})
	var codes []protocol.Code
	for _, r := range results {
		for _, one := range r.([]command.Result) {
			codes = append(codes, one.Code)
		}
	}
	if want := []protocol.Code{"", "", "", protocol.CodeConflict, "", "", "", "", "", "", ""}; !reflect.DeepEqual(codes, want) {
		t.Fatalf("codes are %q", codes)
	}
	changes, ok, err := cursor.TryNext()
	if !ok || err != nil || changes.Index != w.index {
		t.Fatalf("changes %+v, %t, %v", changes, ok, err)
	}
	v := w.store.View()
	want := []state.Change{
		{Job: v.Job(job(2))}, {Job: v.Job(job(1))}, {Evicted: job(9)}, {Agent: v.Agent(agent(2))},
		{Endpoint: v.Endpoint(org2, "ep_new")}, {Removed: org2 + "/" + ep2},
	}
	if !reflect.DeepEqual(changes.List, want) {
		t.Errorf("changes are\n%+v, want\n%+v", changes.List, want)
	}
	if j := v.Job(job(2)); j.Index != w.index-2 || j.Status != protocol.StatusInitializing {
		t.Errorf("the job that changed twice is %+v", j)
	}
	if _, ok, _ := cursor.TryNext(); ok {
		t.Error("the batch gave more than one element")
	}
}

func BenchmarkCycle(b *testing.B) {
	w := ready(b)
	const jobs = 64
	big := func(s *command.Submit) { s.Input = &command.Payload{Inline: make([]byte, 1024)} }
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		var submits, leases, ends []*command.Command
		for i := n; i < n+jobs; i++ {
			submits = append(submits, submit(i, big))
			leases = append(leases, lease(i, 0, 1, 1))
			ends = append(ends, finish(i, 1, 1, 1, protocol.OutcomeCompleted))
		}
		logs := []*raft.Log{w.log(submits...), w.log(leases...), w.log(ends...)}
		for _, l := range logs {
			w.fsm.Apply(l)
		}
		n += jobs
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/job")
}
