package agent_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent"
	"windlass/agent/agenttest"
	"windlass/agent/shim"
	"windlass/protocol"
)

// TestResultsWaitForTheCoordinator has results in the journal that nobody can be
// told of for ten minutes: of an attempt that still holds its lease, of one whose
// lease expired meanwhile, and of two attempts of the same job.
func TestResultsWaitForTheCoordinator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, data := agenttest.New(), t.TempDir()
		journal := filepath.Join(data, "agent", "journal")
		if err := os.MkdirAll(journal, 0o700); err != nil {
			t.Fatal(err)
		}
		c.PutEndpoint(protocol.Endpoint{ID: "ep_x", Revision: 1, Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{"/bin/false"}}})
		ended := func(leased bool, attempts ...uint32) protocol.JobID {
			id := c.Submit("ep_x", `{}`)
			for _, n := range attempts {
				f := protocol.Finish{Job: id, Attempt: n, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`"` + string(rune('0'+n)) + `"`)}
				if err := shim.WriteEntry(journal, shim.Entry{Finish: f, Ended: protocol.TimeOf(time.Now())}); err != nil {
					t.Fatal(err)
				}
				c.Edit(id, func(j *agenttest.Job) { j.Attempt, j.Leased, j.Acked = n, leased, leased })
			}
			return id
		}
		held, expired, twice := ended(true, 1), ended(false, 1), ended(true, 1, 2)
		c.SetFault(func(string) agenttest.Fault { return agenttest.Fault{LoseRequest: true} })
		a, err := agent.New(config(data), deps(c, zerolog.Nop()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		pass(10 * time.Minute)
		if left, _ := filepath.Glob(filepath.Join(journal, "job_*")); len(left) != 4 {
			t.Errorf("the journal has %d results, want all 4", len(left))
		}
		c.SetFault(nil)
		for id, want := range map[protocol.JobID]struct {
			attempt uint32
			output  string
		}{held: {1, `"1"`}, expired: {2, `"1"`}, twice: {2, `"2"`}} {
			j, err := c.Await(t.Context(), id, finished)
			if err != nil || j.Finishes != 1 || j.Finish.Attempt != want.attempt || string(j.Finish.Output) != want.output {
				t.Errorf("job %+v, %v, want %+v", j, err, want)
			}
		}
		pass(time.Minute) // virtual: the answers arrive
		if left, _ := filepath.Glob(filepath.Join(journal, "*")); len(left) != 0 {
			t.Errorf("answered results stay in the journal: %v", left)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestResultStoresItsPayloadsAgain has a coordinator that takes payloads but
// answers no report, until it has collected what no job names: the result that
// it takes then must not name what is gone.
func TestResultStoresItsPayloadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, data := agenttest.New(), t.TempDir()
		journal := filepath.Join(data, "agent", "journal")
		if err := os.MkdirAll(journal, 0o700); err != nil {
			t.Fatal(err)
		}
		c.PutEndpoint(protocol.Endpoint{ID: "ep_x", Revision: 1, Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{"/bin/false"}}})
		id := c.Submit("ep_x", `{}`)
		output := json.RawMessage(`"` + strings.Repeat("x", protocol.InlineOutput) + `"`)
		f := protocol.Finish{Job: id, Attempt: 1, Outcome: protocol.OutcomeCompleted, Output: output}
		if err := shim.WriteEntry(journal, shim.Entry{Finish: f, Ended: protocol.TimeOf(time.Now())}); err != nil {
			t.Fatal(err)
		}
		c.Edit(id, func(j *agenttest.Job) { j.Attempt, j.Leased, j.Acked = 1, true, true })
		c.SetFault(func(call string) agenttest.Fault { return agenttest.Fault{LoseRequest: call == "report"} })
		a, err := agent.New(config(data), deps(c, zerolog.Nop()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		pass(protocol.BlobTerm - time.Minute)
		c.Collect()
		pass(2 * time.Minute)
		c.SetFault(nil)
		j, err := c.Await(t.Context(), id, finished)
		if err != nil || j.Finish.OutputRef == nil {
			t.Fatalf("job %+v, %v", j, err)
		}
		if got := c.Blob(j.Finish.OutputRef.SHA256); string(got) != string(output) {
			t.Errorf("the accepted result names an output of %d bytes that is not there", len(output))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
