package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"windlass/protocol"
)

// proxy stands between an agent and its coordinator and breaks answers on demand.
type proxy struct {
	target string
	ln     net.Listener

	mu    sync.Mutex
	fault func(answer []byte) verdictOf // nil: pass everything
	wg    sync.WaitGroup
}

// verdictOf is what happens to a chunk of answer.
type verdictOf struct {
	hold time.Duration // before it is passed on
	cut  bool          // close the connection instead
}

func newProxy(target string) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, ln: ln}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) close() { _ = p.ln.Close() }

func (p *proxy) set(fault func([]byte) verdictOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	p.wg.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	buf := make([]byte, 256<<10)
	for {
		n, err := out.Read(buf)
		if n > 0 && !p.pass(in, buf[:n]) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) pass(in net.Conn, answer []byte) bool {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	if fault != nil {
		v := fault(answer)
		if v.cut {
			return false
		}
		time.Sleep(v.hold)
	}
	_, err := in.Write(answer)
	return err == nil
}

// isAssignment tells a sync answer that hands out a job.
func isAssignment(answer []byte) bool { return bytes.Contains(answer, []byte(`"assign":[{`)) }

// once runs fault for the first assignment only and tells when it struck.
func once(fault verdictOf) (func([]byte) verdictOf, <-chan struct{}) {
	var first sync.Once
	struck := make(chan struct{})
	return func(answer []byte) (v verdictOf) {
		if isAssignment(answer) {
			first.Do(func() {
				v = fault
				close(struck)
			})
		}
		return v
	}, struck
}

// viaProxy starts a coordinator, the endpoint, and one agent behind a proxy.
func (b *bed) viaProxy(ctx context.Context) (*proxy, error) {
	if err := b.startAll(ctx); err != nil {
		return nil, err
	}
	p, err := newProxy(b.nodes[0].api)
	if err != nil {
		return nil, err
	}
	_, err = b.startAgent("agent-1", 1, "http://"+p.addr())
	return p, err
}

// warm runs one job, so that the agent is warm and parked.
func (c *caller) warm(ctx context.Context) error {
	job, err := c.must(ctx, order{task: task{N: 1}})
	if err != nil {
		return err
	}
	_, err = c.await(ctx, 1, job)
	return err
}

// replyLost: the connection is cut after the grant; the job must start within
// the acknowledgement deadline and a second.
func replyLost(ctx context.Context, b *bed) error {
	p, err := b.viaProxy(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	c := &caller{b: b, name: "client"}
	if err := c.warm(ctx); err != nil {
		return err
	}
	for n := 2; n <= 4; n++ {
		fault, struck := once(verdictOf{cut: true})
		p.set(fault)
		job, err := c.must(ctx, order{task: task{N: n}})
		if err != nil {
			return err
		}
		<-struck
		b.hit("reply-lost")
		granted := time.Now()
		d, err := c.await(ctx, n, job)
		if err != nil {
			return err
		}
		if took := time.Since(granted); took > protocol.AckDeadline+time.Second {
			return errors.New("the job ended " + took.String() + " after its grant was lost: " + d.Status)
		}
	}
	return b.settle(ctx)
}

// assignmentDelayed: an assignment arrives long after its acknowledgement
// deadline, when the job may be somebody else's. It must not start twice.
func assignmentDelayed(ctx context.Context, b *bed) error {
	p, err := b.viaProxy(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	c := &caller{b: b, name: "client"}
	if err := c.warm(ctx); err != nil {
		return err
	}
	fault, struck := once(verdictOf{hold: protocol.LeaseTerm + 10*time.Second})
	p.set(fault)
	job, err := c.must(ctx, order{task: task{N: 2, Ms: 100}})
	if err != nil {
		return err
	}
	<-struck
	b.hit("assignment-delayed", "agent-1 is answered late") // which excuses no second start
	if _, err := b.startAgent("agent-2", 1); err != nil {
		return err
	}
	if _, err := c.await(ctx, 2, job); err != nil {
		return err
	}
	// The late answer is still under way: give it time to do harm.
	if err := pause(ctx, protocol.LeaseTerm+12*time.Second); err != nil {
		return err
	}
	return b.settle(ctx)
}
