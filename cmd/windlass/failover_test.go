package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent"
	"windlass/coordinator/coordtest"
	"windlass/inference/builtin"
	"windlass/protocol"
	"windlass/protocol/client"
)

// TestMain lets the test binary be the program: its own shim, and the built-in
// runtime below that. A child that ran the tests instead would start children.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), version: "test"}
		os.Exit(a.run(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// runAgents runs n agents with all coordinators' addresses until the test ends.
func runAgents(t *testing.T, p *coordtest.Peers, n, slots int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	for i := range n {
		c, err := client.New(client.Config{Addrs: p.URLs(), Key: coordtest.Key})
		if err != nil {
			t.Fatal(err)
		}
		ag, err := agent.New(agent.Config{
			Name: fmt.Sprint("agent-", i), Data: t.TempDir(), Coordinators: p.URLs(), Slots: slots, GPU: agent.GPUConfig{Mode: "none"},
			HTTP:     agent.HTTPConfig{Listen: agent.ListenOff},
			Runtimes: agent.RuntimesConfig{Allow: []agent.AllowRule{{Kind: builtin.Kind}}},
		}, agent.Deps{Coordinator: c, Log: zerolog.Nop(), Version: "test", Executable: os.Args[0], ShimCommand: []string{os.Args[0], shimVerb}})
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			defer c.Close()
			if err := ag.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() {
			soon, end := context.WithTimeout(context.Background(), time.Second)
			defer end()
			if err := ag.Drain(soon); err != nil {
				t.Error(err)
			}
		})
		<-ag.Started()
	}
}

// TestAgentsKeepTheirJobsOverAFailover: the leader dies without a word while
// agents run jobs. Every job completes in its first attempt, and nobody
// sees its progress go back to nothing for good.
func TestAgentsKeepTheirJobsOverAFailover(t *testing.T) {
	const agents, slots = 2, 3
	p := coordtest.StartPeers(t, 3)
	runAgents(t, p, agents, slots)
	doc := protocol.Endpoint{Kind: "Endpoint", ID: "ep_echo", Runtime: protocol.RuntimeSpec{Kind: builtin.Kind, Handler: "echo"}, Concurrency: slots}
	if _, err := p.Client.ApplyEndpoint(t.Context(), doc); err != nil {
		t.Fatal(err)
	}
	var jobs []protocol.JobID
	for range agents * slots {
		r, err := p.Client.Submit(t.Context(), "ep_echo", protocol.SubmitRequest{Input: json.RawMessage(`{"sleep": 6}`)})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, r.JobID)
	}
	ask := func(id protocol.JobID) protocol.JobStatus {
		// In an election there is no answer, and Await asks again.
		s, _ := p.Client.Status(context.Background(), id, client.StatusOptions{Include: []string{"metrics"}})
		return s
	}
	for _, id := range jobs {
		p.Await("the job runs", func(context.Context) bool {
			s := ask(id)
			return s.Status.Terminal() || s.Progress != nil && *s.Progress > 0
		})
	}
	p.Leader().Kill()
	for _, id := range jobs {
		p.Await("its progress is back", func(context.Context) bool {
			s := ask(id)
			return s.Status.Terminal() || s.Progress != nil && s.StaleSince.IsZero()
		})
	}
	for _, id := range jobs {
		var s protocol.JobStatus
		p.Await("the job completes", func(context.Context) bool { s = ask(id); return s.Status.Terminal() })
		if s.Status != protocol.StatusCompleted || s.Metrics.Attempts != 1 {
			t.Errorf("job %s: %v after %d attempts", id, s.Status, s.Metrics.Attempts)
		}
	}
}
