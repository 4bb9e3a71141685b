package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp/fasthttputil"

	"windlass/coordinator/archive"
	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/board"
	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/coordinator/webhook"
	"windlass/protocol"
	"windlass/protocol/netguard"
)

const testKey = "0123456789abcdef0123456789abcdef"

// world is one coordinator without raft: everything is real but the log, which
// applies at once.
type world struct {
	t       testing.TB
	store   *state.Store
	board   *board.Board
	broker  *broker.Broker
	server  *Server
	archive *archive.Archive
	log     *testLog
	ln      *fasthttputil.InmemoryListener
	peers   *fasthttputil.InmemoryListener // where other coordinators relay requests to
	http    *http.Client

	mu     sync.Mutex
	limits *auth.Limiter   // nil: no key is limited
	leader *protocol.Error // what the broker of a follower answers
	logged bytes.Buffer
}

type testLog struct {
	fsm *fsm.FSM

	mu    sync.Mutex
	index uint64
}

func (l *testLog) Enqueue(group []*command.Command, done func([]command.Result, error)) {
	done(l.apply(group))
}

func (l *testLog) apply(group []*command.Command) ([]command.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	data, err := command.Marshal(nowMs(), group)
	if err != nil {
		return nil, err
	}
	l.index++
	return l.fsm.ApplyBatch([]*raft.Log{{Index: l.index, Type: raft.LogCommand, Data: data}})[0].([]command.Result), nil
}

// modern raises the feature level to the newest, as a leader does on its first
// turn.
func (w *world) modern() {
	w.t.Helper()
	level := &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureMax}}}
	secret := &command.Command{Op: &command.Command_PutClusterSecret{PutClusterSecret: &command.PutClusterSecret{Secret: bytes.Repeat([]byte{7}, 32)}}}
	if _, err := w.log.apply([]*command.Command{level, secret}); err != nil {
		w.t.Fatal(err)
	}
}

func nowMs() int64 { return time.Now().UnixMilli() }

// leading is a cluster of one.
type leading struct{}

func (leading) Leads() (Leadership, bool) { return Leadership{}, true }
func (leading) Seek() Seek                { return nil }
func (leading) Leader() (string, bool)    { return "", false }
func (leading) URL(Leader) string         { return "" }
func (leading) Age() time.Duration        { return 0 }

func (leading) Dial(context.Context, Leader) (net.Conn, error) { return nil, net.ErrClosed }

// standing is a world's node, which a test may depose.
type standing struct {
	leading
	w *world
}

func (s standing) Leads() (Leadership, bool) {
	_, err := s.w.lead()
	return Leadership{}, err == nil
}

func (s standing) Seek() Seek { return s }

func (s standing) Turn(context.Context, bool) (Leader, error) {
	if _, err := s.w.lead(); err != nil {
		return Leader{}, err
	}
	return Leader{Here: true}, nil
}

// Write takes the server's log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.Write(p)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, store: state.New(), ln: fasthttputil.NewInmemoryListener(), peers: fasthttputil.NewInmemoryListener()}
	w.log = &testLog{fsm: fsm.New(w.store)}
	w.board = board.New(board.Config{Job: w.store.Job, NowMs: nowMs})
	w.broker = broker.New(broker.Config{Store: w.store, Proposer: w.log, NowMs: nowMs, Board: w.board, Log: zerolog.Nop()})
	blobs, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := auth.NewKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	if w.archive, err = archive.New(archive.Config{Blobs: blobs, Keep: 30 * 24 * time.Hour, NowMs: nowMs}); err != nil {
		t.Fatal(err)
	}
	hooks := webhook.New(webhook.Config{
		Store: w.store, Write: w.write, Applied: func(context.Context, uint64) error { return nil }, NowMs: nowMs, Blobs: blobs,
		Rule: &netguard.Rule{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}, Log: zerolog.Nop(),
	})
	w.server, err = New(Deps{
		Webhooks: hooks, Store: w.store, Board: w.board, Blobs: blobs, Archive: w.archive, MissingBlobs: func() int64 { return 0 }, Keys: keys,
		Limits: w, Failures: auth.NewFailures(0), Broker: w.lead, Cluster: standing{w: w},
		Write: w.write, Admit: func(c *command.Submit) command.Result { return fsm.Admit(w.store.View(), c) },
		Barrier: func(context.Context) error { return nil }, Applied: func(context.Context, uint64) error { return nil }, NowMs: nowMs,
		Member:    func() Member { return Member{Node: "test-node", Leader: true, Term: 7} },
		PublicURL: func() string { return "" }, Version: "test", Log: zerolog.New(w),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { w.board.Run(ctx, w.store) })
	work.Go(func() { _ = w.broker.Run(ctx) })
	work.Go(func() { _ = w.server.Serve(w.ln) })
	work.Go(func() { _ = w.server.ServePeers(w.peers) })
	<-w.broker.Ready()
	transport := &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return w.ln.Dial() },
		MaxIdleConnsPerHost: 100, DisableCompression: true,
	}
	w.http = &http.Client{Transport: described{w: w, next: transport}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := w.server.Shutdown(stop); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		w.peers.Close() // a server that was told to stop before it accepted does not hear it
		cancel()
		work.Wait()
		_ = hooks.Close()
		blobs.Close()
	})
	return w
}

func (w *world) lead() (Broker, *protocol.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leader != nil {
		return nil, w.leader
	}
	return w.broker, nil
}

// Take implements Limits.
func (w *world) Take(_ context.Context, key protocol.KeyID, class auth.Class) auth.Quota {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.limits == nil {
		return auth.Quota{}
	}
	return w.limits.Take(key, class, time.Now())
}

func (w *world) write(ctx context.Context, c *command.Command) (command.Result, error) {
	b, err := w.lead()
	if err != nil {
		return command.Result{}, err
	}
	return b.(*broker.Broker).Write(ctx, c)
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) json(t testing.TB, out any) {
	t.Helper()
	if err := json.Unmarshal(a.body, out); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

func (a answer) fault(t testing.TB) protocol.Error {
	t.Helper()
	var e protocol.Error
	a.json(t, &e)
	return e
}

func (w *world) do(method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.via(w.http, method, path, body, header...)
}

// via sends a request over a client's connections.
func (w *world) via(client *http.Client, method, path, body string, header ...string) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://windlass.test"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func (w *world) get(path string, header ...string) answer { return w.do("GET", path, "", header...) }

func (w *world) post(path, body string, header ...string) answer {
	return w.do("POST", path, body, header...)
}

// raw sends bytes as they are and returns what came until the server closed.
func (w *world) raw(text string) string {
	w.t.Helper()
	conn, err := w.ln.Dial()
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		w.t.Fatal(err)
	}
	b, _ := io.ReadAll(conn)
	return string(b)
}

func (w *world) endpoint(id, extra string) {
	w.t.Helper()
	a := w.do("PUT", "/v2/endpoints/"+id, `{"runtime": {"kind": "builtin", "handler": "echo"}`+extra+`}`)
	if a.status != 200 {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
}

func (w *world) submit(endpoint, body string) protocol.JobID {
	w.t.Helper()
	a := w.post("/v2/endpoints/"+endpoint+"/runasync", body)
	var out protocol.SubmitResponse
	if a.json(w.t, &out); a.status != 200 {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
	return out.JobID
}

func (w *world) jobStatus(id protocol.JobID, query string) protocol.JobStatus {
	w.t.Helper()
	var doc protocol.JobStatus
	w.get("/v2/jobs/"+id.String()+"/status"+query).json(w.t, &doc)
	return doc
}

// agent speaks the agents' protocol.
type agent struct {
	w    *world
	id   protocol.AgentID
	life protocol.Incarnation
	seq  uint64
	held []protocol.HeldAttempt
}

func (w *world) agent() *agent {
	w.t.Helper()
	a := &agent{w: w, id: protocol.NewAgentID(time.Now()), life: protocol.NewIncarnation(time.Now())}
	a.call(protocol.PathRegister, protocol.RegisterRequest{
		Agent: a.id, Name: "host-1", Incarnation: a.life, Protocol: [2]int{0, 0},
		Facts: protocol.AgentFacts{OS: "linux", Slots: 8, Kinds: []string{"builtin"}, Cores: 4, Memory: 8 << 30},
	}, &protocol.RegisterResponse{})
	return a
}

func (a *agent) call(path string, in, out any) {
	a.w.t.Helper()
	b, err := protocol.EncodeJSON(in)
	if err != nil {
		a.w.t.Fatal(err)
	}
	got := a.w.post(path, string(b))
	if got.json(a.w.t, out); got.status != 200 {
		a.w.t.Fatalf("%s: %d %s", path, got.status, got.body)
	}
}

// take syncs until it is given an assignment, and acknowledges it.
func (a *agent) take() protocol.Assignment {
	a.w.t.Helper()
	for range 10 {
		a.seq++
		var resp protocol.SyncResponse
		a.call(protocol.PathSync, protocol.SyncRequest{Agent: a.id, Incarnation: a.life, Seq: a.seq, Held: a.held,
			Capacity: protocol.Capacity{Free: 1}, HoldMs: 2000}, &resp)
		if len(resp.Assign) > 0 {
			got := resp.Assign[0]
			a.held = append(a.held, protocol.HeldAttempt{Job: got.Job, Attempt: got.Attempt})
			return got
		}
	}
	a.w.t.Fatal("no assignment came")
	return protocol.Assignment{}
}

func (a *agent) report(req protocol.ReportRequest) protocol.ReportResponse {
	a.w.t.Helper()
	req.Agent, req.Incarnation, req.Held = a.id, a.life, a.held
	if len(req.Finished) > 0 {
		req.Held, a.held = nil, nil
	}
	var resp protocol.ReportResponse
	a.call(protocol.PathReport, req, &resp)
	return resp
}

func (a *agent) update(got protocol.Assignment, u protocol.AttemptUpdate) protocol.AttemptReply {
	a.w.t.Helper()
	u.Job, u.Attempt = got.Job, got.Attempt
	resp := a.report(protocol.ReportRequest{Attempts: []protocol.AttemptUpdate{u}})
	if len(resp.Attempts) != 1 || resp.Attempts[0].Code != "" {
		a.w.t.Fatalf("update was answered %+v", resp.Attempts)
	}
	return resp.Attempts[0]
}

func (a *agent) finish(got protocol.Assignment, f protocol.Finish) {
	a.w.t.Helper()
	f.Job, f.Attempt = got.Job, got.Attempt
	resp := a.report(protocol.ReportRequest{Finished: []protocol.Finish{f}})
	if len(resp.Attempts) != 1 || resp.Attempts[0].Code != "" {
		a.w.t.Fatalf("finish was answered %+v", resp.Attempts)
	}
}
