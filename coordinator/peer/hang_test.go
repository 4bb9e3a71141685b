package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// silent accepts connections and never says a word, like a stopped process.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.Addr().String()
}

func TestSilentPeerIsNotWaitedFor(t *testing.T) {
	for _, tls := range []bool{false, true} {
		a := listen(t, Identity{"srv_a", one}, certificate(t, tls)).impatient().start(t)
		to := Address{"srv_b", silent(t)}
		_, err := a.Dial(t.Context(), KindRaft, to)
		if u := unreachable(t, err, false); !strings.Contains(u.Error(), "does not answer") {
			t.Error(u)
		}
		unreachable(t, a.Call(t.Context(), to, "ping", nil, nil), false)
	}
}

func TestSilentCallerIsNotWaitedFor(t *testing.T) {
	for _, tls := range []bool{false, true} {
		b := listen(t, Identity{"srv_b", one}, certificate(t, tls)).impatient().start(t)
		for _, some := range []string{"", "R", "R\x01\x00\x10half"} {
			c := rawConn(t, b)
			if _, err := io.WriteString(c, some); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				t.Error(err)
			}
		}
	}
}

// TestStalledTransfersEnd stops the bytes in each direction, on each side.
func TestStalledTransfersEnd(t *testing.T) {
	a := listen(t, Identity{"srv_a", one}, nil).impatient().start(t)
	b := listen(t, Identity{"srv_b", one}, nil).impatient()
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	reads := make(chan error, 1)
	b.Handle("hangs", func(ctx context.Context, _ *Request) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	b.Handle("trickle", func(context.Context, *Request) (any, error) {
		r, w := io.Pipe()
		go func() {
			_, _ = w.Write([]byte("some"))
			<-never
			_ = w.Close()
		}()
		return Blob{r, -1}, nil
	})
	b.Handle("take", func(_ context.Context, r *Request) (any, error) {
		_, err := io.ReadAll(r.Body)
		reads <- err
		return nil, err
	})
	b.start(t)
	_, _, err := a.Stream(t.Context(), b.address(), "hangs", nil, nil, 0)
	if u := unreachable(t, err, true); !errors.Is(u, errStalled) {
		t.Error(u)
	}
	r, _, err := a.Stream(t.Context(), b.address(), "trickle", nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if u := unreachable(t, err, true); !errors.Is(u, errStalled) || string(got) != "some" {
		t.Errorf("%q, %v", got, u)
	}
	_ = r.Close()
	source, end := io.Pipe()
	go func() {
		_, _ = end.Write([]byte("some"))
		if err := <-reads; err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("the receiver waits for a sender that stopped: %v", err)
		}
		_ = end.Close()
	}()
	if _, _, err = a.Stream(t.Context(), b.address(), "take", nil, source, -1); err == nil {
		t.Error("a cut upload was acknowledged")
	}
}

// TestSlowHandlerOfACallIsWaitedFor: a limit on silence is for bytes on their
// way, not for a handler that thinks.
func TestSlowHandlerOfACallIsWaitedFor(t *testing.T) {
	a := listen(t, Identity{"srv_a", one}, nil).start(t)
	b := listen(t, Identity{"srv_b", one}, nil).impatient()
	asked, go1 := make(chan struct{}), make(chan struct{})
	b.Handle("slow", func(ctx context.Context, r *Request) (any, error) {
		var p point
		if err := r.Decode(&p); err != nil {
			return nil, err
		}
		_, _ = r.Body.Read(make([]byte, 1)) // behind its end
		close(asked)
		select {
		case <-go1:
			return p, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	b.start(t)
	answered := make(chan error, 1)
	go func() { answered <- a.Call(deadline(t), b.address(), "slow", point{}, nil) }()
	<-asked
	// Longer than b's limit: another caller of b stalls and is given up meanwhile.
	for range 3 {
		_, _ = io.Copy(io.Discard, rawConn(t, b))
	}
	close(go1)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestBodyIsLeftAloneAfterAnError(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil).start(t), listen(t, Identity{"srv_b", one}, nil).start(t)
	for range 20 {
		body := &guarded{}
		_, _, err := a.Stream(deadline(t), b.address(), "unknown", nil, body, -1)
		body.over = true // the race detector watches
		unreachable(t, err, false)
	}
}

// guarded has no end and is read without a lock, as a caller's own reader is.
type guarded struct{ over bool }

func (g *guarded) Read(b []byte) (int, error) {
	if g.over {
		panic("read after the call")
	}
	return min(len(b), 16), nil
}

// TestAnswerOfAnotherServerIsNotBelieved: who answers is checked on both sides.
func TestAnswerOfAnotherServerIsNotBelieved(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := readHello(c); err == nil {
			_, _ = c.Write(answer{status: StatusOK, self: Identity{"srv_other", one}}.encode())
		}
		_, _ = io.Copy(io.Discard, c)
	}()
	a := listen(t, Identity{"srv_a", one}, nil).start(t)
	_, err = a.Dial(deadline(t), KindRaft, Address{"srv_b", ln.Addr().String()})
	if u := unreachable(t, err, false); !strings.Contains(u.Error(), "srv_other answered") {
		t.Error(u)
	}
}
