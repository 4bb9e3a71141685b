package check

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// second is the unit of the hand-made histories' clock.
const second = int64(time.Second)

// job is the id of task n in the hand-made histories.
func job(n int) protocol.JobID { return protocol.JobID{15: byte(n)} }

func agentID(n int) protocol.AgentID { return protocol.AgentID{15: byte(n)} }

func life(n int) protocol.Incarnation { return protocol.Incarnation{15: byte(n)} }

func doc(n int, status string, attempt int, index uint64) *record.Doc {
	d := &record.Doc{Job: job(n).String(), Task: n, Status: status, Attempt: attempt, Index: index}
	if status == "completed" {
		d.Output = Answer(n)
	}
	return d
}

func submit(n int, start, end int64, outcome record.Outcome) record.Call {
	c := record.Call{Client: "s", Op: record.OpSubmit, Node: "c1", Task: n, Key: fmt.Sprint("task-", n), Input: "bytes", Start: start, End: end, Outcome: outcome}
	if outcome == record.OK {
		c.Job, c.Status = job(n).String(), 200
	}
	return c
}

func read(n int, start, end int64, d *record.Doc) record.Call {
	c := record.Call{Client: "r", Op: record.OpRead, Node: "c2", Task: n, Job: job(n).String(), Start: start, End: end, Outcome: record.OK, Status: 200, Doc: d}
	if d == nil {
		c.Outcome, c.Status = record.No, 404
	}
	return c
}

func watch(n int, at int64, d *record.Doc) record.Call {
	return record.Call{Client: "w", Op: record.OpWatch, Task: n, Job: job(n).String(), Start: at, End: at, Outcome: record.OK, Doc: d}
}

func cancel(n int, start, end int64, outcome record.Outcome, d *record.Doc) record.Call {
	return record.Call{Client: "c", Op: record.OpCancel, Node: "c3", Task: n, Job: job(n).String(), Start: start, End: end, Outcome: outcome, Doc: d}
}

func run(n int, agent, event string, at int64) record.Run {
	return record.Run{Task: n, Job: job(n).String(), Agent: agent, Event: event, At: at, Input: "bytes"}
}

// applied makes one entry of c1's log.
func applied(t *testing.T, node string, index uint64, c *command.Command, res command.Result) record.Applied {
	t.Helper()
	data, err := command.Marshal(1000, []*command.Command{c})
	if err != nil {
		t.Fatal(err)
	}
	results, err := json.Marshal([]command.Result{res})
	if err != nil {
		t.Fatal(err)
	}
	return record.Applied{Node: node, Index: index, Term: 1, Data: data, Results: results}
}

func submitCommand(n int, key string) *command.Command {
	id := job(n)
	return &command.Command{Op: &command.Command_Submit{Submit: &command.Submit{
		Job: id[:], Org: "org_default", Endpoint: "ep_chaos", Priority: 3, Input: &command.Payload{Inline: []byte(`{}`)},
		IdempotencyKey: key, PayloadHash: make([]byte, 32), MaxAttempts: 3, MaxLosses: 3,
	}}}
}

func registerCommand(n int) *command.Command {
	a, l := agentID(n), life(n)
	return &command.Command{Op: &command.Command_Register{Register: &command.Register{
		Agent: a[:], Name: fmt.Sprint("agent-", n), Incarnation: l[:], Facts: []byte(`{}`), Org: "org_default",
	}}}
}

func leaseCommand(n int, expect uint32, agent int) *command.Command {
	id, a, l := job(n), agentID(agent), life(agent)
	return &command.Command{Op: &command.Command_Lease{Lease: &command.Lease{
		Job: id[:], ExpectAttempt: expect, Agent: a[:], Incarnation: l[:], Revision: 1, Reason: "it waited",
	}}}
}

func finishCommand(n int, attempt uint32, agent int) *command.Command {
	id, a, l := job(n), agentID(agent), life(agent)
	return &command.Command{Op: &command.Command_Finish{Finish: &command.Finish{
		Job: id[:], Attempt: attempt, Agent: a[:], Incarnation: l[:], Outcome: string(protocol.OutcomeCompleted), Output: &command.Payload{Inline: []byte(`{}`)},
	}}}
}

func releaseCommand(n int, attempt uint32, agent int) *command.Command {
	id, a, l := job(n), agentID(agent), life(agent)
	return &command.Command{Op: &command.Command_Release{Release: &command.Release{
		Job: id[:], Attempt: attempt, Agent: a[:], Incarnation: l[:], Reason: command.Release_LOST,
	}}}
}

func rejectCommand(n int, attempt uint32, agent int) *command.Command {
	c := releaseCommand(n, attempt, agent)
	c.GetRelease().Reason = command.Release_REJECTED
	return c
}

// sound is a history without fault: task 1 is submitted, read, run and
// completed; task 2 is cancelled while it waits; task 3 is refused.
func sound(t *testing.T) *record.History {
	t.Helper()
	h := &record.History{Settled: true, Lenient: map[int]bool{}, QueueLimit: 2}
	h.Calls = []record.Call{
		submit(1, 1*second, 2*second, record.OK),
		read(1, 3*second, 4*second, doc(1, "queued", 0, 10)),
		read(1, 6*second, 7*second, doc(1, "running", 1, 12)),
		read(1, 20*second, 21*second, doc(1, "completed", 1, 13)),
		submit(2, 1*second, 2*second, record.OK),
		cancel(2, 3*second, 4*second, record.OK, doc(2, "cancelled", 0, 14)),
		submit(3, 1*second, 2*second, record.No),
		watch(1, 4*second, doc(1, "queued", 0, 10)),
		watch(1, 9*second, doc(1, "running", 1, 12)),
	}
	h.Runs = []record.Run{run(1, "agent-1", record.EventStart, 5*second), run(1, "agent-1", record.EventResult, 8*second)}
	for _, node := range []string{"c1", "c2", "c3"} {
		h.Finals = append(h.Finals, record.Final{Node: node, Index: 99, Digest: "same", Docs: []record.Doc{
			*doc(1, "completed", 1, 13), *doc(2, "cancelled", 0, 14),
		}})
	}
	h.Faults = []record.Fault{{Name: "leader-kill", Target: []string{"c1"}, At: 500, Until: second, Limit: 3 * second}}
	for _, node := range []string{"c1", "c2"} {
		h.Applied = append(h.Applied,
			applied(t, node, 9, registerCommand(1), command.Result{}),
			applied(t, node, 10, submitCommand(1, "task-1"), command.Result{Job: job(1)}),
			applied(t, node, 11, submitCommand(2, "task-2"), command.Result{Job: job(2)}),
			applied(t, node, 12, leaseCommand(1, 0, 1), command.Result{Attempt: 1}),
			applied(t, node, 13, finishCommand(1, 1, 1), command.Result{}),
			applied(t, node, 14, &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: jobBytes(2), Org: "org_default"}}}, command.Result{}),
		)
	}
	return h
}

func jobBytes(n int) []byte {
	id := job(n)
	return id[:]
}

// add appends one entry to the log that c1 and c2 applied.
func add(t *testing.T, h *record.History, index uint64, c *command.Command, res command.Result) {
	t.Helper()
	h.Applied = append(h.Applied, applied(t, "c1", index, c, res), applied(t, "c2", index, c, res))
}

// broken wants the promise among the violations.
func broken(t *testing.T, h *record.History, promise, text string) {
	t.Helper()
	r := History(h)
	for _, v := range r.Violations {
		if v.Promise == promise && strings.Contains(v.Text, text) {
			return
		}
	}
	t.Fatalf("the checker did not find %s %q: %v", promise, text, r.Violations)
}
