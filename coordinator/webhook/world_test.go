package webhook

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/protocol/netguard"
)

// world is a log that applies at once, and a sender that leads over it.
type world struct {
	t     testing.TB
	store *state.Store
	blobs blob.Store
	send  *Sender

	mu    sync.Mutex
	fsm   *fsm.FSM
	index uint64
	jobs  int
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, store: state.New()}
	w.fsm = fsm.New(w.store)
	w.send = New(Config{
		Store: w.store, Propose: w.propose, Version: "test", Log: zerolog.Nop(),
		Write: func(ctx context.Context, c *command.Command) (command.Result, error) {
			r, err := w.propose(ctx, c)
			if err != nil {
				return command.Result{}, err
			}
			return r[0], nil
		},
		Applied: func(context.Context, uint64) error { return nil },
		NowMs:   func() int64 { return time.Now().UnixMilli() },
		Rule:    &netguard.Rule{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	})
	w.ok(&command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureAPI}}})
	w.ok(&command.Command{Op: &command.Command_PutClusterSecret{PutClusterSecret: &command.PutClusterSecret{Secret: bytes.Repeat([]byte{9}, 32)}}})
	w.ok(&command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{
		Org: protocol.OrgDefault, Id: "ep_echo", Doc: []byte(`{"runtime":{"kind":"builtin"}}`),
	}}})
	t.Cleanup(func() { _ = w.send.Close() })
	return w
}

func (w *world) propose(ctx context.Context, cmds ...*command.Command) ([]command.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := command.Marshal(time.Now().UnixMilli(), cmds)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	return w.fsm.Apply(&raft.Log{Index: w.index, Term: 1, Type: raft.LogCommand, Data: data}).([]command.Result), nil
}

func (w *world) ok(c *command.Command) command.Result {
	w.t.Helper()
	r, err := w.propose(w.t.Context(), c)
	if err != nil || r[0].Code != "" {
		w.t.Fatalf("%T answered %+v, %v", c.GetOp(), r, err)
	}
	return r[0]
}

// lead runs the sender until the function it returns is called.
func (w *world) lead() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { w.send.Run(ctx) })
	return func() {
		cancel()
		work.Wait()
	}
}

func id16(n int) (id [16]byte) {
	id[0] = 1
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// submit makes a job with a callback; the last one has the number that it returns.
func (w *world) submit(url string, change ...func(*command.Submit)) protocol.JobID {
	w.t.Helper()
	w.mu.Lock()
	w.jobs++
	id := protocol.JobID(id16(w.jobs))
	w.mu.Unlock()
	s := &command.Submit{
		Job: id[:], Org: protocol.OrgDefault, Endpoint: "ep_echo", Priority: 3, Input: &command.Payload{Inline: []byte(`{}`)},
		CallbackUrl: url, CallbackBase: "https://windlass.example.com",
	}
	for _, c := range change {
		c(s)
	}
	w.ok(&command.Command{Op: &command.Command_Submit{Submit: s}})
	return id
}

// ended makes a job that was cancelled: the shortest way to a webhook.
func (w *world) ended(url string, change ...func(*command.Submit)) protocol.JobID {
	w.t.Helper()
	id := w.submit(url, change...)
	w.cancel(id)
	return id
}

func (w *world) cancel(id protocol.JobID) {
	w.t.Helper()
	w.ok(&command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id[:], Org: w.store.Job(id).Org}}})
}

// completed makes a job with that output.
func (w *world) completed(url string, output *command.Payload, change ...func(*command.Finish)) protocol.JobID {
	w.t.Helper()
	id := w.submit(url)
	agent, life := id16(1), id16(2)
	w.ok(&command.Command{Op: &command.Command_Register{Register: &command.Register{
		Agent: agent[:], Name: "a", Incarnation: life[:], Org: protocol.OrgDefault, Facts: []byte(`{}`),
		Held: []*command.Held{{Job: id[:], Attempt: 1}},
	}}})
	w.ok(&command.Command{Op: &command.Command_Lease{Lease: &command.Lease{Job: id[:], Agent: agent[:], Incarnation: life[:], Revision: 1}}})
	f := &command.Finish{
		Job: id[:], Attempt: 1, Agent: agent[:], Incarnation: life[:], Outcome: string(protocol.OutcomeCompleted), Output: output,
		StartedMs: 1_700_000_000_000, EndedMs: 1_700_000_287_500,
	}
	for _, c := range change {
		c(f)
	}
	w.ok(&command.Command{Op: &command.Command_Finish{Finish: f}})
	return id
}

// stored is a payload in the blob store, which few tests need.
func (w *world) stored(content []byte) *command.Payload {
	w.t.Helper()
	if w.blobs == nil {
		dir, err := blob.OpenDir(w.t.TempDir())
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = dir.Close() })
		w.blobs, w.send.poster.blobs = dir, dir
	}
	digest, size, err := w.blobs.Put(w.t.Context(), bytes.NewReader(content), nil, int64(len(content)))
	if err != nil {
		w.t.Fatal(err)
	}
	return &command.Payload{Sha256: digest[:], Size: size}
}

func (w *world) webhook(id protocol.JobID) *state.Delivery {
	w.t.Helper()
	d := w.store.Job(id).Webhook()
	if d == nil {
		w.t.Fatalf("job %s has no webhook", id)
	}
	return d
}

// settled waits until nothing is owed any more. It is for real time: the test's
// own limit ends it.
func (w *world) settled() {
	w.t.Helper()
	for cursor := w.store.Subscribe(w.store.View().Index()); w.store.View().Owed() > 0; {
		if _, err := cursor.Next(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// transport is an http.RoundTripper in place of the network, for virtual time.
type transport func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (r transport) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

func answer(status int, header ...string) (*http.Response, error) {
	h := make(http.Header)
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody}, nil
}
