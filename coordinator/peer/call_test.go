package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"windlass/protocol"
)

type point struct{ X, Y int }

type packed struct{ b []byte }

func (p packed) MarshalBinary() ([]byte, error)    { return append([]byte{'P'}, p.b...), nil }
func (p *packed) UnmarshalBinary(raw []byte) error { p.b = bytes.Clone(raw[1:]); return nil }

func TestCallTravelsAsJSONAndAsBinary(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	b.Handle("point/swap", func(_ context.Context, r *Request) (any, error) {
		if r.From != (Identity{"srv_a", one}) {
			t.Errorf("called by %+v", r.From)
		}
		var p point
		err := r.Decode(&p)
		return point{p.Y, p.X}, err
	})
	b.Handle("bytes/echo", func(_ context.Context, r *Request) (any, error) {
		var p packed
		err := r.Decode(&p)
		return p, err
	})
	b.Handle("nothing", func(context.Context, *Request) (any, error) { return nil, nil })
	a.start(t)
	b.start(t)
	var p point
	if err := a.Call(deadline(t), b.address(), "point/swap", point{1, 2}, &p); err != nil || p != (point{2, 1}) {
		t.Fatalf("%+v, %v", p, err)
	}
	var back packed
	if err := a.Call(deadline(t), b.address(), "bytes/echo", packed{[]byte("\x00\xff")}, &back); err != nil || string(back.b) != "\x00\xff" {
		t.Fatalf("%q, %v", back.b, err)
	}
	if err := a.Call(deadline(t), b.address(), "nothing", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Call(deadline(t), b.address(), "point/swap", nil, nil); protocol.CodeOf(err) != protocol.CodeMalformed {
		t.Fatalf("an empty document was read: %v", err)
	}
}

func TestErrorsArriveAsTheyWere(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	sent := protocol.NewError(protocol.CodeQueueFull, "full").With("limit", "memory").With("count", uint64(1)<<60)
	b.Handle("full", func(context.Context, *Request) (any, error) { return nil, sent })
	b.Handle("broken", func(context.Context, *Request) (any, error) { return nil, errors.New("secret cause") })
	b.Handle("panics", func(context.Context, *Request) (any, error) { panic("secret panic") })
	a.start(t)
	b.start(t)
	var got *protocol.Error
	if err := a.Call(deadline(t), b.address(), "full", nil, nil); !errors.As(err, &got) {
		t.Fatal(err)
	}
	want, _ := json.Marshal(sent)
	if is, _ := json.Marshal(got); !bytes.Equal(is, want) {
		t.Errorf("%s arrived as %s", want, is)
	}
	for _, method := range []string{"broken", "panics"} {
		err := a.Call(deadline(t), b.address(), method, nil, nil)
		if protocol.CodeOf(err) != protocol.CodeInternal || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", method, err)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "secret cause") || !strings.Contains(log, "secret panic") {
		t.Errorf("the causes are not in the log: %s", log)
	}
	if err := a.Call(deadline(t), b.address(), "full", nil, nil); protocol.CodeOf(err) != protocol.CodeQueueFull {
		t.Errorf("after a panic: %v", err)
	}
}

// unreachable asserts what kind of no answer this is.
func unreachable(t *testing.T, err error, sent bool) *Unreachable {
	t.Helper()
	var u *Unreachable
	if !errors.As(err, &u) {
		t.Fatalf("not an Unreachable: %v", err)
	}
	if u.Sent != sent {
		t.Fatalf("sent is %v: %v", u.Sent, err)
	}
	return u
}

func TestUnreachableSaysWhetherSomethingWasSent(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	entered := make(chan struct{})
	b.Handle("dies", func(ctx context.Context, _ *Request) (any, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	a.start(t)
	b.start(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	unreachable(t, a.Call(deadline(t), Address{"srv_c", free.Addr().String()}, "x", nil, nil), false)
	unreachable(t, a.Call(deadline(t), Address{"srv_c", b.Host()}, "x", nil, nil), false)
	unreachable(t, a.Call(deadline(t), b.address(), "unknown", nil, nil), false)
	answered := make(chan error, 1)
	go func() { answered <- a.Call(deadline(t), b.address(), "dies", nil, nil) }()
	<-entered
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	unreachable(t, <-answered, true)
	unreachable(t, a.Call(deadline(t), b.address(), "dies", nil, nil), false)
}

func TestCallersContextReachesTheHandler(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	entered, ended := make(chan struct{}), make(chan struct{})
	b.Handle("waits", func(ctx context.Context, r *Request) (any, error) {
		var p point
		if err := r.Decode(&p); err != nil {
			t.Error(err)
		}
		close(entered)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	a.start(t)
	b.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- a.Call(ctx, b.address(), "waits", point{}, nil) }()
	<-entered
	cancel()
	if u := unreachable(t, <-answered, true); !errors.Is(u, context.Canceled) {
		t.Error(u)
	}
	<-ended
}

func TestCallsShareConnections(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	conns := make(map[string]bool)
	b.Handle("who", func(ctx context.Context, _ *Request) (any, error) {
		c, _ := ctx.Value(connKey{}).(*conn)
		conns[c.RemoteAddr().String()] = true
		return "", nil
	})
	a.start(t)
	b.start(t)
	for range 20 {
		if err := a.Call(deadline(t), b.address(), "who", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(conns) != 1 {
		t.Errorf("20 calls one after the other used %d connections", len(conns))
	}
}

func TestMethodsAreForOneCluster(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", ""}, nil), listen(t, Identity{"srv_b", one}, nil)
	ok := func(_ context.Context, r *Request) (any, error) { return r.From, nil }
	b.Handle("closed", ok)
	b.HandleOpen("open", ok)
	a.start(t)
	b.start(t)
	anybody := Address{Host: b.Host()}
	for _, self := range []Identity{{"srv_a", ""}, {"srv_a", "cluster_two"}} {
		a.become(self)
		var from Identity
		if err := a.Call(deadline(t), anybody, "open", nil, &from); err != nil || from != self {
			t.Errorf("%+v, %v", from, err)
		}
		u := unreachable(t, a.Call(deadline(t), b.address(), "closed", nil, nil), false)
		if !strings.Contains(u.Error(), "inside one cluster") {
			t.Error(u)
		}
	}
	a.become(Identity{"srv_a", one})
	unreachable(t, a.Call(deadline(t), anybody, "closed", nil, nil), false)
	// The connection from before a was in the cluster is not used for this.
	if err := a.Call(deadline(t), b.address(), "closed", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestStreamsBothWays(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil), listen(t, Identity{"srv_b", one}, nil)
	body := bytes.Repeat([]byte("windlass"), 1<<17) // a megabyte
	b.Handle("blob/put", func(_ context.Context, r *Request) (any, error) {
		got, err := io.ReadAll(r.Body)
		if !bytes.Equal(got, body) || r.Query.Get("id") != "a b" || r.Size != int64(len(body)) && r.Size != -1 {
			t.Errorf("%d bytes of %d, %v", len(got), r.Size, r.Query)
		}
		return nil, err
	})
	b.Handle("blob/get", func(context.Context, *Request) (any, error) {
		return Blob{io.NopCloser(bytes.NewReader(body)), int64(len(body))}, nil
	})
	b.Handle("blob/short", func(context.Context, *Request) (any, error) {
		return Blob{io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{})), -1}, nil
	})
	b.Handle("blob/none", func(context.Context, *Request) (any, error) {
		return nil, protocol.NewError(protocol.CodeNotFound, "no such blob")
	})
	a.start(t)
	b.start(t)
	for _, size := range []int64{int64(len(body)), -1} {
		r, _, err := a.Stream(deadline(t), b.address(), "blob/put", map[string][]string{"id": {"a b"}}, bytes.NewReader(body), size)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	r, size, err := a.Stream(deadline(t), b.address(), "blob/get", nil, nil, 0)
	if err != nil || size != int64(len(body)) {
		t.Fatal(size, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	_ = r.Close()
	if r, _, err = a.Stream(deadline(t), b.address(), "blob/short", nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	unreachable(t, err, true)
	_ = r.Close()
	if _, _, err := a.Stream(deadline(t), b.address(), "blob/none", nil, nil, 0); protocol.CodeOf(err) != protocol.CodeNotFound {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk failed") }
