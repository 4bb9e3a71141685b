package fsm

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// randomCommand draws a command over few ids, so that they meet; what it claims
// of the job is mostly what the job really has.
func randomCommand(t *rapid.T, w *world, m *model) *command.Command {
	n := rapid.IntRange(1, 5).Draw(t, "job")
	a := rapid.IntRange(1, 2).Draw(t, "agent")
	attempt, run, inc := uint32(0), uint32(1), 1
	if j := w.store.Job(job(n)); j != nil {
		attempt, run = j.Attempt, j.Run
		if j.Lease != nil {
			a = int(j.Lease.Agent[15])
		}
	}
	if known := w.store.View().Agent(agent(a)); known != nil {
		inc = int(known.Incarnation[15])
	}
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		attempt += uint32(rapid.IntRange(0, 2).Draw(t, "attempt"))
		run = uint32(rapid.IntRange(0, 3).Draw(t, "run"))
		a, inc = rapid.IntRange(1, 3).Draw(t, "other"), rapid.IntRange(1, 4).Draw(t, "incarnation")
	}
	org, ep := org1, ep1
	if rapid.IntRange(0, 3).Draw(t, "org") == 0 {
		org, ep = org2, ep2
	}
	switch rapid.SampledFrom([]string{
		"submit", "submit", "lease", "lease", "lease", "lease", "finish", "finish", "release", "release", "release", "adopt", "expire", "cancel", "reopen",
		"register", "adopt", "endpoint", "delete", "evict",
		"archive", "archive", "dropSegment", "recall", "recall",
		"pause", "pause", "resume", "resume", "pauseEndpoint", "purge",
		"webhook", "webhook", "webhook", "webhook",
	}).Draw(t, "op") {
	case "submit":
		return randomSubmit(t, n, org, ep)
	case "lease":
		return lease(n, attempt, a, inc)
	case "finish":
		return finish(n, attempt, a, inc, rapid.SampledFrom([]protocol.Outcome{
			protocol.OutcomeCompleted, protocol.OutcomeFailed, protocol.OutcomeFailed, protocol.OutcomeTimeout, protocol.OutcomeCancelled,
			protocol.OutcomePaused, protocol.OutcomePaused,
		}).Draw(t, "outcome"), func(f *command.Finish) {
			f.Retryable = rapid.Bool().Draw(t, "retryable")
			if c := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "checkpoint"); c != "" {
				checkpointed(c)(f)
			}
		})
	case "release":
		return release(n, attempt, a, inc, command.Release_Reason(rapid.IntRange(1, 4).Draw(t, "reason")))
	case "expire":
		return expire(n)
	case "cancel":
		return cancel(n, org)
	case "reopen":
		return reopen(n, org, run)
	case "register":
		var list []*command.Held
		for range rapid.IntRange(0, 2).Draw(t, "held") {
			list = append(list, held(rapid.IntRange(1, 5).Draw(t, "heldJob"), attempt))
		}
		return register(a, inc+rapid.IntRange(-1, 1).Draw(t, "next"), list...)
	case "adopt":
		return adopt(n, attempt, a, inc)
	case "endpoint":
		doc := rapid.SampledFrom(slices.Sorted(func(yield func(string) bool) {
			for d := range queueLimits {
				if !yield(d) {
					return
				}
			}
		})).Draw(t, "doc")
		return putEndpoint(org, ep, doc, func(p *command.PutEndpoint) {
			p.Create = rapid.Bool().Draw(t, "create")
			p.ExpectRevision = uint64(rapid.IntRange(0, 3).Draw(t, "revision"))
		})
	case "delete":
		return deleteEndpoint(org, ep)
	case "archive":
		return m.randomArchive(t, w)
	case "pause":
		return pauseJob(n, org, expected(t, w, n))
	case "resume":
		return resumeJob(n, org, expected(t, w, n))
	case "pauseEndpoint":
		return pauseEndpoint(org, ep, rapid.Bool().Draw(t, "paused"))
	case "purge":
		return randomPurge(t, org, ep)
	case "dropSegment":
		return dropSegment(int64(rapid.SampledFrom([]int{1, 1 << 31}).Draw(t, "before")), rapid.SliceOfN(rapid.Uint64Range(1, 8), 1, 2).Draw(t, "numbers")...)
	case "recall":
		return m.randomRecall(t, n)
	case "webhook":
		return m.randomWebhook(t, n, run, org)
	default:
		return evict(n, rapid.IntRange(1, 5).Draw(t, "second"))
	}
}

// randomSubmit draws a submit with and without what few jobs have.
func randomSubmit(t *rapid.T, n int, org, ep string) *command.Command {
	return submit(n, func(s *command.Submit) {
		s.Org, s.Endpoint = org, ep
		s.RetryTimeout = rapid.Bool().Draw(t, "retryTimeout")
		s.MaxAttempts = uint32(rapid.IntRange(1, 3).Draw(t, "maxAttempts"))
		s.QueueLimit = uint32(rapid.IntRange(0, 3).Draw(t, "queueLimit"))
		if rapid.Bool().Draw(t, "callback") {
			s.CallbackUrl, s.CallbackBase = "https://example.com/hook", "https://windlass.example.com"
		}
		if rapid.Bool().Draw(t, "keyed") {
			withKey(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), byte(rapid.IntRange(1, 2).Draw(t, "hash")))(s)
		}
	})
}

// TestFSMAgreesWithModel drives the FSM and the reference model with the same
// commands. It also checks, after every command, that a refusal and a repetition
// change nothing and that states move along the published table only; and at the
// end that grouping and snapshots make no difference.
func TestFSMAgreesWithModel(t *testing.T) {
	allowed := make(map[[2]protocol.Status]bool)
	for _, tr := range protocol.Transitions() {
		allowed[[2]protocol.Status{tr.From, tr.To}] = true
	}
	rapid.Check(t, func(rt *rapid.T) {
		w, twin, m := ready(t), ready(t), newModel()
		for _, c := range []*command.Command{
			putEndpoint(org1, ep1, `{"runtime":{"kind":"builtin"}}`), putEndpoint(org2, ep2, `{"runtime":{"kind":"builtin"},"queueLimit":2}`),
			register(1, 1), register(2, 1),
		} {
			m.apply(w.clock, c)
		}
		for _, each := range []*world{w, twin} {
			each.ok(setFeature(command.FeatureAPI))
			each.ok(putOrg(org2))
		}
		start, startClock := w.persist(), w.clock
		var logs []*raft.Log
		var results []any
		for range rapid.IntRange(20, 100).Draw(rt, "steps") {
			w.clock = max(startClock, w.clock+rapid.SampledFrom([]int64{0, 1, 1000, -1000, 3_600_000, 86_400_000}).Draw(rt, "clock"))
			m.index = indexes(w.store.View())
			c := randomCommand(rt, w, m)
			before := w.store.View()
			log := w.log(c)
			logs = append(logs, log)
			got := w.fsm.Apply(log).([]command.Result)
			results = append(results, got)
			want := m.apply(w.clock, c)
			compareResults(rt, c, got[0], want)
			after := w.store.View()
			if got[0].Code != "" || got[0].Replayed {
				if before.Digest() != after.Digest() {
					rt.Fatalf("%v answered %+v and changed the state", c, got[0])
				}
			}
			if diff := m.differences(after); len(diff) > 0 {
				rt.Fatalf("after %v: %s", c, diff)
			}
			if c.GetRecall() == nil { // which brings a job back as it was
				checkTransitions(rt, allowed, before, after)
			}
			checkRepetition(rt, twin, rebase(c, m, twin), w.clock, want)
		}
		checkSnapshot(rt, t, w)
		checkGrouping(rt, t, w, start, logs, results)
		checkTail(rt, t, w, start, logs)
	})
}

func indexes(v *state.View) map[protocol.JobID]uint64 {
	out := make(map[protocol.JobID]uint64)
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		out[j.ID] = j.Index
		return true
	})
	return out
}

func compareResults(t *rapid.T, c *command.Command, got, want command.Result) {
	got.Message, got.Index = "", 0
	want.Message, want.Index = "", 0
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n got %+v\nwant %+v", c, got, want)
	}
}

func checkTransitions(t *rapid.T, allowed map[[2]protocol.Status]bool, before, after *state.View) {
	after.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		var from protocol.Status
		if old := before.Job(j.ID); old != nil {
			from = old.Status
		}
		if from != j.Status && !allowed[[2]protocol.Status{from, j.Status}] {
			t.Fatalf("%s moved from %s to %s", j.ID, from, j.Status)
		}
		return true
	})
}

// checkRepetition applies the command twice to a twin, which knows nothing else.
func checkRepetition(t *rapid.T, twin *world, c *command.Command, clock int64, want command.Result) {
	twin.clock = clock
	first := twin.do(c)[0]
	compareResults(t, c, first, want)
	once := twin.store.View().Digest()
	second := twin.do(c)[0]
	if twin.store.View().Digest() != once {
		t.Fatalf("%v changes the state when applied twice", c)
	}
	if c.GetDeleteEndpoint() == nil && (second.Code != first.Code || first.Code == "" && !second.Replayed) {
		t.Fatalf("%v answered %+v, and then %+v", c, first, second)
	}
}

// checkSnapshot restores what the world persists.
func checkSnapshot(rt *rapid.T, t *testing.T, w *world) {
	data := w.persist()
	twin, err := restored(t, data)
	if err != nil {
		rt.Fatalf("cannot restore: %v", err)
	}
	if twin.store.View().Digest() != w.store.View().Digest() || twin.store.View().Bytes() != w.store.View().Bytes() {
		rt.Fatalf("the restored state differs")
	}
	if !bytes.Equal(twin.persist(), data) {
		rt.Fatalf("the restored state persists to other bytes")
	}
}

// checkTail takes a snapshot somewhere in the log: with what follows it, it leads
// to the state that the whole log leads to.
func checkTail(rt *rapid.T, t *testing.T, w *world, start []byte, logs []*raft.Log) {
	early, err := restored(t, start)
	if err != nil {
		rt.Fatal(err)
	}
	cut := rapid.IntRange(0, len(logs)).Draw(rt, "cut")
	early.fsm.ApplyBatch(logs[:cut])
	late, err := restored(t, early.persist())
	if err != nil {
		rt.Fatal(err)
	}
	late.fsm.ApplyBatch(logs[cut:])
	if !bytes.Equal(late.persist(), w.persist()) || late.store.View().Digest() != w.store.View().Digest() {
		rt.Fatalf("a snapshot after %d of %d logs and the rest lead to another state", cut, len(logs))
	}
}

// checkGrouping applies the same logs in groups of other sizes.
func checkGrouping(rt *rapid.T, t *testing.T, w *world, start []byte, logs []*raft.Log, results []any) {
	other, err := restored(t, start)
	if err != nil {
		rt.Fatal(err)
	}
	var got []any
	for rest := logs; len(rest) > 0; {
		n := rapid.IntRange(1, len(rest)).Draw(rt, "group")
		got = append(got, other.fsm.ApplyBatch(rest[:n])...)
		rest = rest[n:]
	}
	if !reflect.DeepEqual(got, results) {
		rt.Fatalf("grouping changed the results:\n got %+v\nwant %+v", got, results)
	}
	if w.store.View().Digest() != other.store.View().Digest() || w.store.View().Bytes() != other.store.View().Bytes() {
		rt.Fatalf("grouping changed the state")
	}
	if !bytes.Equal(w.persist(), other.persist()) {
		rt.Fatalf("grouping changed the snapshot")
	}
}
