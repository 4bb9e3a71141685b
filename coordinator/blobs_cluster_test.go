package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/protocol"
	"windlass/protocol/client"
)

// three are coordinators on loopback that each have a disk of their own.
type three struct {
	t     *testing.T
	peers []string
	nodes [3]*running
}

// running is one of them while it runs.
type running struct {
	*Coordinator
	*client.Client // of this one alone
	stop           func()
}

func startThree(t *testing.T) *three {
	t.Helper()
	c := &three{t: t}
	for range c.nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.peers = append(c.peers, ln.Addr().String())
		defer ln.Close() // all three are chosen before one is bound again
	}
	return c
}

// start runs a coordinator on what is in data.
func (c *three) start(n int, data string) {
	c.t.Helper()
	cfg := onDisk(c.t, data)
	cfg.Peer.Listen, cfg.Join, cfg.Expect = c.peers[n], c.peers, 3
	co, err := New(cfg, zerolog.New(zerolog.NewTestWriter(c.t)).Level(zerolog.ErrorLevel))
	if err != nil {
		c.t.Fatal(err)
	}
	cl, err := client.New(client.Config{Addrs: []string{"http://" + co.Addr().String()}, Key: "0123456789abcdef0123456789abcdef"})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- co.Run(ctx) }()
	c.nodes[n] = &running{co, cl, func() {
		cl.Close()
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}}
}

// leader waits until one of those that run leads.
func (c *three) leader() int {
	c.t.Helper()
	for c.t.Context().Err() == nil {
		for i, n := range c.nodes {
			if n == nil {
				continue
			}
			if _, leads := n.place.Leads(); leads {
				return i
			}
		}
		rest()
	}
	return -1
}

// rest lets others run between two looks.
func rest() { <-time.After(10 * time.Millisecond) }

func (n *running) has(t *testing.T, d blob.Digest) bool {
	t.Helper()
	ok, err := n.blobs.store.(*blob.Replicated).Local().Has(d)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// output reads a job's output through one coordinator, as soon as it answers.
func (n *running) output(t *testing.T, job protocol.JobID) []byte {
	t.Helper()
	for {
		r, err := n.Output(t.Context(), job)
		if err == nil {
			b, rerr := io.ReadAll(r)
			if err = errors.Join(rerr, r.Close()); err == nil {
				return b
			}
		}
		var e *protocol.Error
		if !errors.As(err, &e) || e.Code != protocol.CodeNoLeader && e.Code != protocol.CodeUnavailable {
			t.Fatalf("output: %v", err)
		}
		rest()
	}
}

func (n *running) input(t *testing.T, digest string) []byte {
	t.Helper()
	r, err := n.GetBlob(t.Context(), digest, protocol.JobID{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// complete runs the one job there is as an agent does, with an output that is
// stored as a blob, and returns the name of its input.
func (n *running) complete(t *testing.T, output []byte) (job protocol.JobID, input string) {
	t.Helper()
	agent, life := protocol.NewAgentID(time.Now()), protocol.NewIncarnation(time.Now())
	_, err := n.Register(t.Context(), protocol.RegisterRequest{
		Agent: agent, Name: "a", Incarnation: life, Protocol: [2]int{protocol.MinProtocolMin, protocol.ProtocolMinor},
		Facts: protocol.AgentFacts{Version: "test", OS: "linux", Arch: "amd64", Cores: 1, Memory: 1 << 30, Slots: 1, Kinds: []string{"builtin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sync, err := n.Sync(t.Context(), protocol.SyncRequest{Agent: agent, Incarnation: life, Seq: 1, Capacity: protocol.Capacity{Seq: 1, Free: 1}, HoldMs: 30_000})
	if err != nil || len(sync.Assign) != 1 {
		t.Fatalf("%d assignments, %v", len(sync.Assign), err)
	}
	as := sync.Assign[0]
	sum := sha256.Sum256(output)
	ref := &protocol.BlobRef{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(output))}
	if err := n.PutBlob(t.Context(), ref.SHA256, ref.Size, bytes.NewReader(output)); err != nil {
		t.Fatal(err)
	}
	rep, err := n.Report(t.Context(), protocol.ReportRequest{
		Agent: agent, Incarnation: life, Capacity: protocol.Capacity{Seq: 2, Draining: true},
		Finished: []protocol.Finish{{Job: as.Job, Attempt: as.Attempt, Outcome: protocol.OutcomeCompleted, OutputRef: ref}},
	})
	if err != nil || len(rep.Attempts) != 1 || rep.Attempts[0].Code != "" {
		t.Fatalf("the result was not taken: %+v, %v", rep, err)
	}
	return as.Job, as.InputBlob
}

// TestPayloadsOutliveADisk kills the leader after a job with a large input and a
// large output, and wipes its disk: the others serve both, and so does the empty
// coordinator that takes its place, which then has copies of its own.
func TestPayloadsOutliveADisk(t *testing.T) {
	c := startThree(t)
	data := t.TempDir()
	for n := range c.nodes {
		c.start(n, filepath.Join(data, string(rune('a'+n))))
	}
	defer func() {
		for _, n := range c.nodes {
			if n != nil {
				n.stop()
			}
		}
	}()
	dead := c.leader()
	first := c.nodes[dead]
	if _, err := first.ApplyEndpoint(t.Context(), protocol.Endpoint{ID: "ep_echo", Runtime: protocol.RuntimeSpec{Kind: "builtin"}}); err != nil {
		t.Fatal(err)
	}
	input := []byte(`{"text":"` + strings.Repeat("i", 1<<20) + `"}`)
	output := []byte(`"` + strings.Repeat("o", 1<<20) + `"`)
	if _, err := first.Submit(t.Context(), "ep_echo", protocol.SubmitRequest{Input: json.RawMessage(input)}); err != nil {
		t.Fatal(err)
	}
	job, name := first.complete(t, output)

	first.stop()
	if err := os.RemoveAll(filepath.Join(data, string(rune('a'+dead)))); err != nil {
		t.Fatal(err)
	}
	c.nodes[dead] = nil
	serves := func(n *running) {
		t.Helper()
		if got := n.output(t, job); !bytes.Equal(got, output) {
			t.Errorf("the output came back as %d bytes", len(got))
		}
		if got := n.input(t, name); !bytes.Equal(got, input) {
			t.Errorf("the input came back as %d bytes", len(got))
		}
	}
	for _, n := range c.nodes {
		if n != nil {
			serves(n)
		}
	}

	c.start(dead, filepath.Join(data, "new"))
	fresh := c.nodes[dead]
	sum, err := blob.ParseDigest(name)
	if err != nil {
		t.Fatal(err)
	}
	for t.Context().Err() == nil && !(fresh.has(t, sum) && fresh.has(t, sha256.Sum256(output))) {
		rest() // the filler brings both, unasked
	}
	serves(fresh)
	for t.Context().Err() == nil && fresh.blobs.missing() != 0 {
		rest() // what it says follows what it did
	}
}

// without removes this coordinator's own copies of the blobs.
func (n *running) without(t *testing.T, digests ...blob.Digest) {
	t.Helper()
	local := n.blobs.store.(*blob.Replicated).Local()
	for _, d := range digests {
		err := local.Walk(t.Context(), func(c blob.Copy) error {
			if c.Digest == d {
				return local.Remove(t.Context(), c)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n.has(t, d) {
			t.Fatal("the copy is still there")
		}
	}
}

// votes reports whether a coordinator is a voter, as the leader knows.
func (c *three) votes(n int) bool {
	c.t.Helper()
	server := c.nodes[n].node.Identity().ServerID
	for _, m := range c.nodes[c.leader()].node.Members() {
		if m.Server == server {
			return m.Voter
		}
	}
	return false
}

// TestPayloadsOutliveTwoDisks has payloads on two of three coordinators. One of
// these is wiped, comes back and votes; then the other is wiped: whoever votes
// has what it is counted for.
func TestPayloadsOutliveTwoDisks(t *testing.T) {
	c := startThree(t)
	data := t.TempDir()
	for n := range c.nodes {
		c.start(n, filepath.Join(data, string(rune('a'+n))))
	}
	defer func() {
		for _, n := range c.nodes {
			if n != nil {
				n.stop()
			}
		}
	}()
	b := c.leader()
	first := c.nodes[b]
	if _, err := first.ApplyEndpoint(t.Context(), protocol.Endpoint{ID: "ep_echo", Runtime: protocol.RuntimeSpec{Kind: "builtin"}}); err != nil {
		t.Fatal(err)
	}
	input := []byte(`{"text":"` + strings.Repeat("i", 1<<20) + `"}`)
	output := []byte(`"` + strings.Repeat("o", 1<<20) + `"`)
	if _, err := first.Submit(t.Context(), "ep_echo", protocol.SubmitRequest{Input: json.RawMessage(input)}); err != nil {
		t.Fatal(err)
	}
	job, name := first.complete(t, output)
	sum, err := blob.ParseDigest(name)
	if err != nil {
		t.Fatal(err)
	}
	both := []blob.Digest{sum, sha256.Sum256(output)}
	for _, n := range c.nodes {
		for t.Context().Err() == nil && !(n.has(t, both[0]) && n.has(t, both[1])) {
			rest() // the last copy may be under way
		}
	}
	a, third := (b+1)%3, (b+2)%3
	c.nodes[third].without(t, both...)

	wipe := func(n int) {
		t.Helper()
		c.nodes[n].stop()
		if err := os.RemoveAll(filepath.Join(data, string(rune('a'+n)))); err != nil {
			t.Fatal(err)
		}
		c.start(n, filepath.Join(data, string(rune('a'+n))))
	}
	wipe(a)
	for t.Context().Err() == nil && !c.votes(a) {
		rest()
	}
	for _, d := range both {
		if !c.nodes[a].has(t, d) {
			t.Error("it votes, and lacks a payload")
		}
	}
	wipe(b)
	for _, n := range c.nodes {
		if got := n.output(t, job); !bytes.Equal(got, output) {
			t.Errorf("the output came back as %d bytes", len(got))
		}
		if got := n.input(t, name); !bytes.Equal(got, input) {
			t.Errorf("the input came back as %d bytes", len(got))
		}
	}
}
