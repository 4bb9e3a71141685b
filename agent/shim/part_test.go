package shim

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/inference"
	"windlass/protocol"
)

// pipes is a listener on which a test connects by hand.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return nil }

// parting is a shim whose runtime failed before its agent connected; it closes
// ln at its end.
func parting(t *testing.T) (ln *pipes, began time.Time) {
	t.Helper()
	s := newServer(t.TempDir(), Spec{}, State{}, zerolog.Nop())
	ln = &pipes{make(chan net.Conn), make(chan struct{})}
	go s.accept(ln)
	go func() {
		s.part(&inference.Failure{Code: protocol.CodeRuntimeStart, Message: "the model file is missing"})
		_ = ln.Close()
	}()
	return ln, time.Now()
}

func TestAgentThatConnectsLateHearsWhyTheStartFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, began := parting(t)
		<-time.After(partGrace / 2)
		agent, shim := net.Pipe()
		select {
		case ln.conns <- shim:
		case <-ln.closed:
			t.Fatal("the shim ended, and nobody had heard why")
		}
		in := newReader(agent)
		for {
			m, err := in.next()
			if err != nil {
				t.Fatalf("the shim ended without its last message: %v", err)
			}
			if m.Type == msgExit {
				if m.Failure == nil || m.Failure.Code != protocol.CodeRuntimeStart {
					t.Errorf("the last message is %+v", m.Failure)
				}
				break
			}
		}
		_ = agent.Close()
		<-ln.closed
		if took := time.Since(began); took >= partGrace {
			t.Errorf("the shim stayed for %v although it was heard", took)
		}
	})
}

func TestShimEndsThatNobodyConnectsTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, began := parting(t)
		<-ln.closed
		if took := time.Since(began); took < partGrace || took > partGrace+time.Second {
			t.Errorf("the shim waited %v for an agent, want %v", took, partGrace)
		}
	})
}
