package coordtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

const endpoint = "ep_test"

func jobPath(id protocol.JobID) string { return "/v2/jobs/" + id.String() }

// ask sends one request to one node and decodes a 200.
func (n *Node) ask(t *testing.T, method, path, body string, out any) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+Key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			t.Fatalf("%s %s at %s: %s %s", method, path, n.URL, res.Status, raw)
		}
	}
	return res
}

func submit(t *testing.T, n *Node, input string) (id protocol.JobID) {
	t.Helper()
	repeat(t, func() error {
		r, err := n.Client.Submit(t.Context(), endpoint, protocol.SubmitRequest{Input: json.RawMessage(input)})
		id = r.JobID
		return err
	})
	return id
}

// repeat calls what a client would repeat while no leader is known: machines
// that are busy with other tests elect now and then.
func repeat(t *testing.T, call func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settle)
	defer cancel()
	for {
		err := call()
		if err == nil {
			return
		}
		var e *protocol.Error
		if ctx.Err() != nil || !errors.As(err, &e) || e.Code != protocol.CodeNoLeader || e.Details["outcome"] != "none" {
			t.Fatal(err)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// worker is an agent that holds what it is given until it is told to finish.
type worker struct {
	t      *testing.T
	client *client.Client
	id     protocol.AgentID
	life   protocol.Incarnation
	said   atomic.Uint64 // numbers statements

	mu    sync.Mutex
	runs  map[protocol.HeldAttempt]*run
	taken []protocol.HeldAttempt // every attempt that it was ever given
}

// run is one attempt at the worker.
type run struct {
	step     int
	finished bool
}

// startWorker registers a worker and keeps it talking until the test ends.
func startWorker(t *testing.T, p *Peers) *worker {
	t.Helper()
	return startWorkerOf(t, p, newClient(t, 0, p.URLs()...))
}

// startWorkerOf is startWorker with a client of its own.
func startWorkerOf(t *testing.T, p *Peers, c *client.Client) *worker {
	t.Helper()
	w := &worker{
		t: t, client: c, runs: make(map[protocol.HeldAttempt]*run),
		id: protocol.NewAgentID(time.Now()), life: protocol.NewIncarnation(time.Now()),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() { cancel(); work.Wait() })
	p.Await("the worker registers", func(context.Context) bool {
		_, err := w.client.Register(ctx, protocol.RegisterRequest{
			Agent: w.id, Name: "worker", Incarnation: w.life,
			Facts: protocol.AgentFacts{OS: "linux", Slots: 100, Kinds: []string{"builtin"}, Cores: 4, Memory: 8 << 30},
		})
		return err == nil
	})
	work.Go(func() { w.sync(ctx) })
	work.Go(func() { w.report(ctx) })
	return w
}

func (w *worker) statement() ([]protocol.HeldAttempt, protocol.Capacity) {
	var held []protocol.HeldAttempt
	for k := range w.runs {
		held = append(held, k)
	}
	return held, protocol.Capacity{Seq: w.said.Add(1), Free: 100 - len(held)}
}

func (w *worker) sync(ctx context.Context) {
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		w.mu.Lock()
		req := protocol.SyncRequest{Agent: w.id, Incarnation: w.life, Seq: seq, HoldMs: 1000}
		req.Held, req.Capacity = w.statement()
		w.mu.Unlock()
		resp, err := w.client.Sync(ctx, req)
		if err != nil {
			if code := protocol.CodeOf(err); code == protocol.CodeStaleIncarnation || code == protocol.CodeUnknownAgent {
				w.t.Errorf("the worker is not known any more: %v", err)
				return
			}
			pause(ctx, 20*time.Millisecond)
			continue
		}
		w.mu.Lock()
		for _, a := range resp.Assign {
			k := protocol.HeldAttempt{Job: a.Job, Attempt: a.Attempt}
			if w.runs[k] == nil {
				w.runs[k], w.taken = &run{}, append(w.taken, k)
			}
		}
		w.mu.Unlock()
	}
}

// report says how far every run is, ten times a second.
func (w *worker) report(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		req := protocol.ReportRequest{Agent: w.id, Incarnation: w.life}
		for k, r := range w.runs {
			if r.finished {
				req.Finished = append(req.Finished, protocol.Finish{Job: k.Job, Attempt: k.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"ok":true}`), RunMs: 5})
				continue
			}
			r.step++
			req.Attempts = append(req.Attempts, protocol.AttemptUpdate{Job: k.Job, Attempt: k.Attempt, StartedMs: 10, Progress: &protocol.Progress{Step: fmt.Sprint("step ", r.step)}})
		}
		req.Held, req.Capacity = w.statement()
		req.Held = slices.DeleteFunc(req.Held, func(k protocol.HeldAttempt) bool { return w.runs[k].finished })
		w.mu.Unlock()
		resp, err := w.client.Report(ctx, req)
		w.mu.Lock()
		for _, a := range resp.Attempts {
			k := protocol.HeldAttempt{Job: a.Job, Attempt: a.Attempt}
			if err == nil && a.Code != "" {
				w.t.Errorf("attempt %v was refused: %s", k, a.Code)
			}
			if a.Finished {
				delete(w.runs, k)
			}
		}
		w.mu.Unlock()
		pause(ctx, 100*time.Millisecond)
	}
}

func (w *worker) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runs {
		r.finished = true
	}
}

// attempts returns every attempt that the worker was given.
func (w *worker) attempts() []protocol.HeldAttempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.taken)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func status(n *Node, id protocol.JobID) (protocol.JobStatus, error) {
	return n.Client.Status(context.Background(), id, client.StatusOptions{})
}

// TestEveryCoordinatorServesEveryRequest writes through one and reads through
// each: nobody sees an older state than was acknowledged.
func TestEveryCoordinatorServesEveryRequest(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	for i, writer := range p.Nodes {
		id := submit(t, writer, `{"n":1}`)
		for _, reader := range p.Nodes {
			if s, err := status(reader, id); err != nil || s.Status != protocol.StatusQueued {
				t.Errorf("job of %d at %s: %v, %v", i, reader.URL, s.Status, err)
			}
			var list protocol.Page[protocol.JobStatus]
			if reader.ask(t, "GET", "/v2/jobs?status=queued", "", &list); len(list.Data) != 1 {
				t.Errorf("%s lists %d jobs", reader.URL, len(list.Data))
			}
			var batch protocol.BatchStatusResponse
			if reader.ask(t, "POST", "/v2/jobs/status/batch", `{"jobIds":["`+id.String()+`"]}`, &batch); len(batch.Jobs) != 1 {
				t.Errorf("%s: batch %+v", reader.URL, batch)
			}
			var why protocol.Explain
			if reader.ask(t, "GET", jobPath(id)+"/explain", "", &why); why.JobID != id || len(why.Reasons) == 0 || why.Position != 1 {
				t.Errorf("%s: explain %+v", reader.URL, why)
			}
			var plan protocol.DryRun
			if reader.ask(t, "POST", "/v2/endpoints/"+endpoint+"/runasync?dryRun=true", `{"input":{}}`, &plan); plan.Explain == nil || plan.Explain.Position != 2 {
				t.Errorf("%s: dry run %+v", reader.URL, plan)
			}
		}
		ender := p.Nodes[(i+1)%3]
		if s, err := ender.Client.Cancel(t.Context(), id); err != nil || s.Status != protocol.StatusCancelled {
			t.Errorf("cancelled at %s: %v, %v", ender.URL, s.Status, err)
		}
		for _, reader := range p.Nodes {
			if s, err := status(reader, id); err != nil || s.Status != protocol.StatusCancelled {
				t.Errorf("cancelled job at %s: %v, %v", reader.URL, s.Status, err)
			}
		}
		if s, err := writer.Client.Retry(t.Context(), id); err != nil || s.Status != protocol.StatusQueued {
			t.Errorf("retried at %s: %v, %v", writer.URL, s.Status, err)
		}
		if _, err := ender.Client.Cancel(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	for _, n := range p.Nodes {
		if _, err := status(n, protocol.NewJobID(time.Now())); protocol.CodeOf(err) != protocol.CodeJobNotFound {
			t.Errorf("a job that is not there at %s: %v", n.URL, err)
		}
		res := n.ask(t, "GET", "/v2/jobs?consistency=maybe", "", &protocol.Error{})
		if res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("an unknown consistency: %s", res.Status)
		}
	}
}

// TestAnAgentIsToldWhoLeads: the coordinator that does not lead names the leader,
// or relays when it is asked to.
func TestAnAgentIsToldWhoLeads(t *testing.T) {
	p := StartPeers(t, 3)
	leader, follower := p.Leader(), p.Followers()[0]
	body := func(relay bool) string {
		raw, err := protocol.EncodeJSON(protocol.RegisterRequest{Agent: protocol.NewAgentID(time.Now()), Incarnation: protocol.NewIncarnation(time.Now()), Relay: relay})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	p.Await("the leader's address is known", func(context.Context) bool {
		var resp protocol.RegisterResponse
		follower.ask(t, "POST", protocol.PathRegister, body(false), &resp)
		return resp.Leader == leader.URL
	})
	var resp protocol.RegisterResponse
	if follower.ask(t, "POST", protocol.PathRegister, body(true), &resp); resp.Leader != "" || resp.LeaseMs == 0 {
		t.Fatalf("relayed: %+v", resp)
	}
}

// TestTheLeaderDiesUnderAgents: jobs run at an agent when the leader dies without
// a word. They go on under the attempts that they have, their progress comes
// back, and their results are taken by the next leader.
func TestTheLeaderDiesUnderAgents(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	w := startWorker(t, p)
	var jobs []protocol.JobID
	for i := range 20 {
		jobs = append(jobs, submit(t, p.Nodes[i%3], `{}`))
	}
	p.Await("all jobs run", func(context.Context) bool { return len(w.attempts()) == len(jobs) })
	stream := watch(t, p.Followers()[0], jobs[0])
	held := make(chan protocol.JobStatus, 1)
	go func() {
		// Until the job has ended: the waits in between are over with any change.
		var s protocol.JobStatus
		for s.Status != protocol.StatusCompleted && t.Context().Err() == nil {
			s, _ = p.Client.Status(t.Context(), jobs[1], client.StatusOptions{Wait: 30 * time.Second, Revision: s.Revision})
		}
		held <- s
	}()
	leader := p.Leader()
	leader.Kill()
	after := p.Leader()
	for _, n := range p.Followers() {
		p.Await("progress is back", func(context.Context) bool {
			s, err := status(n, jobs[2])
			if err == nil && s.Status != protocol.StatusRunning {
				t.Errorf("a running job became %v", s.Status)
			}
			if err == nil && s.CurrentStep == "" && s.StaleSince.IsZero() {
				t.Errorf("progress is gone and not marked: %+v", s)
			}
			return err == nil && s.CurrentStep != "" && s.StaleSince.IsZero()
		})
	}
	w.finish()
	for _, id := range jobs {
		p.Await("the job completes", func(context.Context) bool {
			s, err := status(after, id)
			return err == nil && s.Status == protocol.StatusCompleted
		})
	}
	if got := w.attempts(); len(got) != len(jobs) {
		t.Errorf("%d attempts for %d jobs: a healthy agent lost a lease", len(got), len(jobs))
	}
	if last := <-stream; last != protocol.StatusCompleted.String() {
		t.Errorf("the stream ended with %q", last)
	}
	if s := <-held; s.JobID != jobs[1] {
		t.Errorf("the poll that was held over the failover: %+v", s)
	}
	leader.Start()
	p.Await("the one that died follows", func(ctx context.Context) bool { return leader.Client.Health(ctx) == nil })
	if s, err := status(leader, jobs[3]); err != nil || s.Status != protocol.StatusCompleted {
		t.Errorf("at the one that died: %v, %v", s.Status, err)
	}
}

// watch follows a job's events over one connection to n; the channel delivers
// the last status when it ends. Revisions never go back.
func watch(t *testing.T, n *Node, id protocol.JobID) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", n.URL+jobPath(id)+"/status/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+Key)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("stream: %v %v", res, err)
	}
	last := make(chan string, 1)
	go func() {
		defer res.Body.Close()
		state, events := "", protocol.NewEventReader(bufio.NewReader(res.Body))
		var seen [3]uint64
		for {
			e, err := events.Next()
			if err != nil {
				last <- state
				return
			}
			var doc protocol.JobStatus
			if e.Type != protocol.EventStatus || json.Unmarshal(e.Data, &doc) != nil {
				continue
			}
			state = doc.Status.String()
			var at [3]uint64
			if _, err := fmt.Sscanf(doc.Revision, "%d.%d.%d", &at[0], &at[1], &at[2]); err != nil || slices.Compare(at[:], seen[:]) < 0 {
				t.Errorf("revision %s came after %v", doc.Revision, seen)
			}
			seen = at
		}
	}()
	return last
}

// TestNoAcknowledgedSubmitIsLost: callers submit through all three coordinators
// while the leader dies. What was acknowledged is there once, what was refused is
// not there, and a key names one job (reliability I1, I3, I4; F26).
func TestNoAcknowledgedSubmitIsLost(t *testing.T) {
	const callers, keys = 60, 8
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	type call struct {
		key string
		id  protocol.JobID
		err error
	}
	var mu sync.Mutex
	var history []call
	over := make(chan struct{})
	var work sync.WaitGroup
	for i := range callers {
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				c := call{key: fmt.Sprintf("own-%d-%d", i, n)}
				if n%2 == 0 {
					c.key = fmt.Sprintf("shared-%d-%d", n, i%keys) // raced for by others
				}
				r, err := p.Nodes[(i+n)%3].Client.Submit(context.Background(), endpoint, protocol.SubmitRequest{Input: json.RawMessage(`{"same":1}`), IdempotencyKey: c.key, Tags: map[string]string{"key": c.key}})
				c.id, c.err = r.JobID, err
				mu.Lock()
				history = append(history, c)
				mu.Unlock()
			}
		})
	}
	done := func() (acked int) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range history {
			if c.err == nil {
				acked++
			}
		}
		return acked
	}
	p.Await("submits before", func(context.Context) bool { return done() > 200 })
	p.Leader().Kill()
	before := done()
	p.Leader()
	p.Await("submits after", func(context.Context) bool { return done() > before+200 })
	close(over)
	work.Wait()
	there := byKey(t, p)
	acked, refused, doubtful := 0, 0, 0
	for _, c := range history {
		var e *protocol.Error
		switch {
		case c.err == nil:
			acked++
			if ids := there[c.key]; len(ids) != 1 || ids[0] != c.id {
				t.Errorf("%s was acknowledged as %s and is there as %v", c.key, c.id, ids)
			}
		case errors.As(c.err, &e) && e.Details["outcome"] == "none":
			refused++
			if strings.HasPrefix(c.key, "own-") && len(there[c.key]) != 0 {
				t.Errorf("%s did not happen, it was said, and is there", c.key)
			}
		case errors.As(c.err, &e) && e.Details["outcome"] == "unknown" && e.Details["jobId"] == nil:
			t.Errorf("an answer that does not know names no job: %v", e.Details)
		default:
			doubtful++
		}
	}
	t.Logf("%d acknowledged, %d refused, %d in doubt", acked, refused, doubtful)
}

// byKey reads every job by its idempotency key.
func byKey(t *testing.T, p *Peers) map[string][]protocol.JobID {
	t.Helper()
	there, cursor := make(map[string][]protocol.JobID), ""
	for {
		page, err := p.Client.Jobs(t.Context(), client.ListOptions{Limit: protocol.MaxListLimit, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Data {
			there[j.Tags["key"]] = append(there[j.Tags["key"]], j.JobID)
		}
		if cursor = page.NextCursor; cursor == "" {
			return there
		}
	}
}

// TestOneAloneSaysWhatItKnows: without a majority writes are refused at once and
// reads are stale only on request, with their age.
func TestOneAloneSaysWhatItKnows(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	id := submit(t, p.Nodes[0], `{}`)
	alone := p.Followers()[0]
	p.Await("the job is known there", func(context.Context) bool {
		return alone.ask(t, "GET", jobPath(id)+"/status?consistency=stale", "", nil).StatusCode == http.StatusOK
	})
	p.Followers()[1].Kill()
	p.Leader().Kill()
	p.Await("the leader is missed", func(context.Context) bool {
		var e protocol.Error
		res := alone.ask(t, "POST", "/v2/endpoints/"+endpoint+"/runasync", `{"input":{}}`, &e)
		if res.StatusCode == http.StatusServiceUnavailable && (e.Code != protocol.CodeNoLeader || res.Header.Get("Retry-After") == "" || e.Details["outcome"] != "none") {
			t.Errorf("%s %+v", res.Status, e)
		}
		return res.StatusCode == http.StatusServiceUnavailable
	})
	for _, path := range []string{jobPath(id) + "/status", jobPath(id) + "/explain", "/v2/jobs", "/v2/endpoints", "/v2/agents", jobPath(id) + "/status/stream"} {
		if res := alone.ask(t, "GET", path, "", &protocol.Error{}); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	for _, path := range []string{jobPath(id) + "/status", "/v2/jobs", "/v2/endpoints/" + endpoint, jobPath(id) + "/events"} {
		res := alone.ask(t, "GET", path+"?consistency=stale", "", nil)
		if res.StatusCode != http.StatusOK || res.Header.Get(protocol.HeaderIndex) == "" || res.Header.Get(protocol.HeaderAge) == "" {
			t.Errorf("%s stale: %s %v", path, res.Status, res.Header)
		}
	}
}

// TestEveryCoordinatorPausesAndPurges: what a purge removed is counted the same
// whichever coordinator was asked.
func TestEveryCoordinatorPausesAndPurges(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	p.Await("every coordinator supports pauses", func(context.Context) bool {
		return p.Leader().ask(t, "POST", "/v2/endpoints/"+endpoint+"/pause", "", nil).StatusCode == http.StatusOK
	})
	for i, n := range p.Nodes {
		jobs := []protocol.JobID{submit(t, n, `{"n":1}`), submit(t, n, `{"n":2}`), submit(t, n, `{"n":3}`)}
		var s protocol.JobStatus
		if res := n.ask(t, "POST", jobPath(jobs[0])+"/pause", "", &s); s.Status != protocol.StatusPaused {
			t.Errorf("paused at %s: %s %v", n.URL, res.Status, s.Status)
		}
		if res := n.ask(t, "POST", jobPath(jobs[0])+"/resume", "", &s); s.Status != protocol.StatusQueued {
			t.Errorf("resumed at %s: %s %v", n.URL, res.Status, s.Status)
		}
		path, count := "/v2/endpoints/"+endpoint+"/purge", new(protocol.PurgeResponse)
		if i == 1 {
			path = "/v2/" + endpoint + "/purge-queue"
		}
		res := n.ask(t, "POST", path, "", count)
		if res.StatusCode != http.StatusOK || count.Removed != int64(len(jobs)) {
			t.Errorf("%s at %s: %s %+v", path, n.URL, res.Status, count)
		}
		for _, id := range jobs {
			if s, err := status(n, id); err != nil || s.Status != protocol.StatusCancelled {
				t.Errorf("a purged job at %s: %v, %v", n.URL, s.Status, err)
			}
		}
	}
}
