package ledger

import (
	"fmt"
	"slices"
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// log plays commands into a ledger, each as an entry of its own.
type log struct {
	*Ledger[struct{}]
	broken []string // promises
	index  uint64
	clock  int64
}

func newLog() *log {
	l := &log{clock: 1000}
	l.Ledger = New(Config[struct{}]{Whole: true, Fail: func(promise, format string, args ...any) {
		l.broken = append(l.broken, promise+": "+fmt.Sprintf(format, args...))
	}})
	return l
}

func (l *log) add(c *command.Command, r command.Result) {
	l.index++
	l.clock += 1000
	l.Begin(l.index, l.clock)
	l.Apply(c, &r)
}

func id(n byte) []byte { return append(make([]byte, 15), n) }

func submit(n byte, change ...func(*command.Submit)) *command.Command {
	s := &command.Submit{
		Job: id(n), Org: "org_default", Endpoint: "ep", Priority: 3, MaxAttempts: 2, MaxLosses: 1,
		IdempotencyKey: fmt.Sprint("key ", n), PayloadHash: make([]byte, 32), TtlMs: 60_000,
	}
	for _, f := range change {
		f(s)
	}
	return &command.Command{Op: &command.Command_Submit{Submit: s}}
}

func made(n byte) command.Result { return command.Result{Job: protocol.JobID(id(n)), Run: 1} }

func lease(n byte, from uint32) *command.Command {
	return &command.Command{Op: &command.Command_Lease{Lease: &command.Lease{Job: id(n), ExpectAttempt: from, Agent: id(1), Incarnation: id(1)}}}
}

func finish(n byte, attempt uint32, outcome protocol.Outcome) *command.Command {
	return &command.Command{Op: &command.Command_Finish{Finish: &command.Finish{
		Job: id(n), Attempt: attempt, Agent: id(1), Incarnation: id(1), Outcome: string(outcome), Retryable: true, NotBeforeMs: 50_000,
	}}}
}

func release(n byte, reason command.Release_Reason) *command.Command {
	return &command.Command{Op: &command.Command_Release{Release: &command.Release{Job: id(n), Attempt: 1, Agent: id(1), Incarnation: id(1), Reason: reason}}}
}

func register(life byte) *command.Command {
	return &command.Command{Op: &command.Command_Register{Register: &command.Register{Agent: id(1), Incarnation: id(life), Name: "agent"}}}
}

func adopt(n byte, from uint32) *command.Command {
	return &command.Command{Op: &command.Command_Adopt{Adopt: &command.Adopt{Job: id(n), FromAttempt: from, Agent: id(1), Incarnation: id(1)}}}
}

func cancel(n byte) *command.Command {
	return &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id(n), Org: "org_default"}}}
}

func pause(n byte) *command.Command {
	return &command.Command{Op: &command.Command_Pause{Pause: &command.Pause{Job: id(n), Org: "org_default"}}}
}

func level(n uint32) *command.Command {
	return &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: n}}}
}

// archived is the command that moves job n, as it is since the entry.
func archived(n byte, entry uint64) *command.Command {
	return &command.Command{Op: &command.Command_Archive{Archive: &command.Archive{
		Number: 1, Segment: &command.Segment{Number: 1, First: id(1), Last: id(9)}, Jobs: []*command.Archived{{Job: id(n), Index: entry}},
	}}}
}

func recall(n byte) *command.Command {
	return &command.Command{Op: &command.Command_Recall{Recall: &command.Recall{Job: id(n)}}}
}

func evict(n byte) *command.Command {
	return &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{Jobs: [][]byte{id(n)}}}}
}

// ready is a log with a registered agent, every feature, and job 1 waiting: entry 3.
func ready() *log {
	l := newLog()
	l.add(level(command.FeatureMax), command.Result{})
	l.add(register(1), command.Result{})
	l.add(submit(1), made(1))
	return l
}

func TestSoundLogBreaksNothing(t *testing.T) {
	l := ready()
	first := l.clock
	l.add(submit(1), command.Result{Job: protocol.JobID(id(1)), CreatedMs: first, Replayed: true})
	l.add(submit(2, func(s *command.Submit) { s.IdempotencyKey = "key 1" }), command.Result{Job: protocol.JobID(id(1)), CreatedMs: first, Replayed: true})
	l.add(lease(1, 0), command.Result{Attempt: 1})
	l.add(finish(1, 1, protocol.OutcomeFailed), command.Result{})
	l.clock = 60_000
	l.add(lease(1, 1), command.Result{Attempt: 2})
	l.add(finish(1, 2, protocol.OutcomeFailed), command.Result{}) // the last attempt: entry 8
	l.add(archived(1, 9), command.Result{Count: 1})
	l.add(recall(1), command.Result{})
	l.add(&command.Command{Op: &command.Command_Reopen{Reopen: &command.Reopen{Job: id(1)}}}, command.Result{Run: 2})
	l.add(pause(1), command.Result{})
	l.add(cancel(1), command.Result{})
	l.add(evict(1), command.Result{Count: 1})
	if l.broken != nil {
		t.Fatal(l.broken)
	}
	if j := l.Job(protocol.JobID(id(1))); j.Place != Forgotten || j.Run != 2 || j.Status != protocol.StatusCancelled || len(l.Live()) != 0 {
		t.Errorf("%+v", j)
	}
}

// spoiled is a sound log with one entry too many.
type spoiled struct {
	name, promise string
	spoil         func(*log)
}

func brokenBeginnings() []spoiled {
	return []spoiled{
		{"a job is made twice", "I4", func(l *log) { l.add(submit(1), made(1)) }},
		{"a key makes two jobs", "I4", func(l *log) { l.add(submit(2, func(s *command.Submit) { s.IdempotencyKey = "key 1" }), made(2)) }},
		{"a free key is refused", "I4", func(l *log) { l.add(submit(2), command.Result{Code: protocol.CodeIdempotencyReused}) }},
		{"a key names another job", "I4", func(l *log) { l.add(submit(2), command.Result{Job: protocol.JobID(id(1)), Replayed: true}) }},
		{"a job that never was is answered", "I1", func(l *log) { l.add(submit(2), command.Result{Job: protocol.JobID(id(2)), Replayed: true}) }},
		{"another time of creation is answered", "I4", func(l *log) {
			l.add(submit(1), command.Result{Job: protocol.JobID(id(1)), CreatedMs: 1, Replayed: true})
		}},
		{"more wait than may", "I16", func(l *log) { l.add(submit(2, func(s *command.Submit) { s.QueueLimit = 1 }), made(2)) }},
		{"a refusal at too few", "I16", func(l *log) {
			l.add(submit(2), command.Result{Code: protocol.CodeQueueFull, Limit: command.LimitOrg, Count: 1})
		}},
		{"a lease while it is leased", "I5", func(l *log) {
			l.add(lease(1, 0), command.Result{Attempt: 1})
			l.add(lease(1, 1), command.Result{Attempt: 2})
		}},
		{"an attempt that is not the next", "I5", func(l *log) { l.add(lease(1, 0), command.Result{Attempt: 2}) }},
		{"a lease of no job", "I5", func(l *log) { l.add(lease(2, 0), command.Result{Attempt: 1}) }},
		{"a lease to an older life", "I6", func(l *log) {
			l.add(register(2), command.Result{})
			l.add(lease(1, 0), command.Result{Attempt: 1})
		}},
		{"a lease of a cancelled job", "I11", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(lease(1, 0), command.Result{Attempt: 1})
		}},
		{"a lease of a paused job", "I11", func(l *log) {
			l.add(pause(1), command.Result{})
			l.add(lease(1, 0), command.Result{Attempt: 1})
		}},
		{"a lease within the back-off", "I9", func(l *log) {
			l.add(lease(1, 0), command.Result{Attempt: 1})
			l.add(finish(1, 1, protocol.OutcomeFailed), command.Result{})
			l.add(lease(1, 1), command.Result{Attempt: 2})
		}},
		{"an adoption of what nobody gave back", "I6", func(l *log) { l.add(adopt(1, 0), command.Result{Attempt: 1}) }},
	}
}

func brokenEnds() []spoiled {
	return []spoiled{
		{"a result without a lease", "I6", func(l *log) { l.add(finish(1, 1, protocol.OutcomeCompleted), command.Result{}) }},
		{"a lease after the end", "I8", func(l *log) {
			l.add(lease(1, 0), command.Result{Attempt: 1})
			l.add(finish(1, 1, protocol.OutcomeCompleted), command.Result{})
			l.add(lease(1, 1), command.Result{Attempt: 2})
		}},
		{"a loss too many leads to another lease", "I8", func(l *log) {
			for range 2 {
				l.Job(protocol.JobID(id(1))).Attempt = 0
				l.add(lease(1, 0), command.Result{Attempt: 1})
				l.add(release(1, command.Release_LOST), command.Result{})
			}
			l.add(lease(1, 1), command.Result{Attempt: 2})
		}},
		{"a ttl that ends early", "I12", func(l *log) {
			l.add(&command.Command{Op: &command.Command_ExpireTtl{ExpireTtl: &command.ExpireTTL{Job: id(1)}}}, command.Result{})
		}},
		{"a cancel after the end", "I8", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(cancel(1), command.Result{})
		}},
		{"a purge that counts too few", "I15", func(l *log) {
			l.add(&command.Command{Op: &command.Command_Purge{Purge: &command.Purge{Org: "org_default", Endpoint: "ep", Jobs: [][]byte{id(1)}}}}, command.Result{Replayed: true})
		}},
		{"a run that is not the next", "I8", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(&command.Command{Op: &command.Command_Reopen{Reopen: &command.Reopen{Job: id(1)}}}, command.Result{Run: 3})
		}},
		{"an attempt is moved that nobody has", "I6", func(l *log) {
			l.add(register(2), command.Result{Current: []protocol.HeldAttempt{{Job: protocol.JobID(id(1)), Attempt: 1}}})
		}},
		{"a live job is evicted", "I1", func(l *log) { l.add(evict(1), command.Result{Count: 1}) }},
		{"a job is archived that changed since", "I1", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(archived(1, 3), command.Result{Count: 1})
		}},
		{"a job comes back that never left", "I8", func(l *log) { l.add(recall(1), command.Result{}) }},
		{"a job comes back whose time is over", "I8", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(evict(1), command.Result{Count: 1})
			l.add(recall(1), command.Result{})
		}},
		{"an archived job is leased", "I5", func(l *log) {
			l.add(cancel(1), command.Result{})
			l.add(archived(1, 4), command.Result{Count: 1})
			l.add(lease(1, 0), command.Result{Attempt: 1})
		}},
		{"the feature level falls", "I17", func(l *log) { l.add(level(command.FeatureBase), command.Result{}) }},
	}
}

// TestEveryBrokenRuleIsNamed breaks a sound log in one entry.
func TestEveryBrokenRuleIsNamed(t *testing.T) {
	for _, c := range slices.Concat(brokenBeginnings(), brokenEnds()) {
		t.Run(c.name, func(t *testing.T) {
			l := ready()
			c.spoil(l)
			if len(l.broken) == 0 || l.broken[0][:len(c.promise)+1] != c.promise+":" {
				t.Errorf("want %s, got %v", c.promise, l.broken)
			}
		})
	}
	l := newLog()
	if l.add(evict(1), command.Result{}); l.broken != nil {
		t.Errorf("a command of the base level: %v", l.broken)
	}
	if l.add(recall(1), command.Result{Replayed: true}); len(l.broken) != 1 {
		t.Errorf("a command above the level: %v", l.broken)
	}
}

// TestEveryCommandOfAJobIsFollowed: whoever adds a command that names jobs has the
// ledger follow it.
func TestEveryCommandOfAJobIsFollowed(t *testing.T) {
	followed := []string{
		"submit", "lease", "finish", "release", "expire_ttl", "cancel", "reopen", "adopt", "evict",
		"archive", "recall", "pause", "resume", "purge", "record_delivery", "redeliver",
	}
	fields := (&command.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		names := f.Message().Fields()
		if (names.ByName("job") != nil || names.ByName("jobs") != nil) && !slices.Contains(followed, string(f.Name())) {
			t.Errorf("the ledger does not follow %s", f.Name())
		}
	}
}
