package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

const (
	// beatConns carry the beats of a whole swarm: with two connections for each
	// of ten thousand agents, the coordinator would run out of descriptors here
	// before it is measured.
	beatConns = 32

	// swarmPause is between two tries of an agent that no coordinator takes.
	swarmPause = 250 * time.Millisecond
)

// swarm is agents that hold one job each for ever and come back after a
// failover as a real agent does: spread over the time that they were told, with
// all that they hold.
type swarm struct {
	addrs []string
	beats []*beatConn

	held    atomic.Int64
	stopped atomic.Int64 // attempts that a coordinator took away
	returns atomic.Int64
}

// swarmTally is what a swarm answers when it is asked.
type swarmTally struct {
	Held    int64 `json:"held"`
	Stopped int64 `json:"stopped"`
	Returns int64 `json:"returns"`
}

// drone is one of them; one goroutine syncs, another one beats for all.
type drone struct {
	s  *swarm
	id protocol.AgentID

	mu   sync.Mutex
	inc  protocol.Incarnation
	held []protocol.HeldAttempt
	seq  uint64
}

func (d *drone) state() ([]protocol.HeldAttempt, protocol.Capacity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	return append([]protocol.HeldAttempt{}, d.held...), protocol.Capacity{Seq: d.seq, Free: 1 - len(d.held)}
}

// run syncs at whichever coordinator takes it until ctx ends.
func (d *drone) run(ctx context.Context, name string, first int) {
	known := false
	addr := d.s.addrs[first%len(d.s.addrs)]
	for try := first; ctx.Err() == nil; {
		hint, spread := d.visit(ctx, addr, name, &known)
		switch {
		case ctx.Err() != nil:
			return
		case hint != "":
			addr = hint
			continue
		case spread > 0:
			d.s.returns.Add(1)
			nap(ctx, time.Duration(rand.Int64N(int64(spread)+1)))
		default:
			nap(ctx, swarmPause/2+time.Duration(rand.Int64N(int64(swarmPause))))
		}
		try++
		addr = d.s.addrs[try%len(d.s.addrs)]
	}
}

func nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// visit parks at one coordinator until the connection is lost. It returns where
// that coordinator sends it, and the spread it was told if it was parked there.
func (d *drone) visit(ctx context.Context, addr, name string, known *bool) (hint string, spread time.Duration) {
	c, err := dial(addr, benchKey)
	if err != nil {
		return "", 0
	}
	defer c.close()
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	for ctx.Err() == nil {
		if !*known {
			if hint, *known = d.register(c, name); !*known {
				return hint, 0
			}
		}
		req := protocol.SyncRequest{Agent: d.id, Incarnation: d.inc, Seq: uint64(time.Now().UnixNano()), HoldMs: protocol.SyncHold.Milliseconds()}
		req.Held, req.Capacity = d.state()
		var answer protocol.SyncResponse
		status, err := exchange(c, protocol.PathSync, req, &answer)
		switch {
		case err != nil:
			return "", spread
		case status == 404 || status == 409 || status == 410:
			*known = false
			continue
		case status != 200:
			return "", spread
		case answer.Leader != "":
			return strings.TrimPrefix(strings.TrimPrefix(answer.Leader, "http://"), "https://"), 0
		}
		spread = time.Duration(answer.SpreadMs) * time.Millisecond
		d.obey(&answer)
	}
	return "", 0
}

func (d *drone) register(c *conn, name string) (hint string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inc = protocol.NewIncarnation(time.Now())
	var answer protocol.RegisterResponse
	status, err := exchange(c, protocol.PathRegister, protocol.RegisterRequest{
		Agent: d.id, Name: name, Incarnation: d.inc, Held: d.held,
		Facts: protocol.AgentFacts{Version: "bench", Slots: 1, Kinds: []string{"builtin"}},
	}, &answer)
	if err != nil || status != 200 {
		return "", false
	}
	if answer.Leader != "" {
		return strings.TrimPrefix(answer.Leader, "http://"), false
	}
	return "", true
}

// obey takes a job, and notes one that is taken away.
func (d *drone) obey(answer *protocol.SyncResponse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range answer.Assign {
		if len(d.held) == 0 {
			d.held = append(d.held, protocol.HeldAttempt{Job: a.Job, Attempt: a.Attempt})
			d.s.held.Add(1)
		}
	}
	if len(answer.Stop) > 0 && len(d.held) > 0 {
		d.held = nil
		d.s.held.Add(-1)
		d.s.stopped.Add(1)
	}
}

// beatConn is shared by many agents, as behind a proxy.
type beatConn struct {
	mu sync.Mutex
	c  *conn
	n  int
}

// beat reports what an agent holds to whichever coordinator takes it.
func (b *beatConn) beat(d *drone) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range len(d.s.addrs) {
		if b.c == nil {
			c, err := dial(d.s.addrs[b.n%len(d.s.addrs)], benchKey)
			if err != nil {
				b.n++
				continue
			}
			b.c = c
		}
		d.mu.Lock()
		req := protocol.ReportRequest{Agent: d.id, Incarnation: d.inc}
		d.mu.Unlock()
		req.Held, req.Capacity = d.state()
		var answer protocol.ReportResponse
		status, err := exchange(b.c, protocol.PathReport, req, &answer)
		if err == nil && status == 200 && answer.Leader == "" {
			return
		}
		if err != nil || answer.Leader != "" || status == 503 {
			b.c.close()
			b.c = nil
			b.n++
			continue
		}
		return
	}
}

func exchange(c *conn, path string, in, out any) (int, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	status, answer, err := c.post(path, body)
	if err != nil || status != 200 {
		return status, err
	}
	return status, json.Unmarshal(answer, out)
}

func swarmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "swarm ADDRS FIRST AGENTS", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			first, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[2])
			if err != nil {
				return err
			}
			return serveSwarm(cmd.Context(), strings.Split(args[0], ","), first, n, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// serveSwarm runs n agents and answers every line of in with a tally.
func serveSwarm(ctx context.Context, addrs []string, first, n int, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	s := &swarm{addrs: addrs}
	for range beatConns {
		s.beats = append(s.beats, &beatConn{})
	}
	var drones []*drone
	for i := range n {
		d := &drone{s: s, id: protocol.NewAgentID(time.Now())}
		drones = append(drones, d)
		wg.Go(func() { d.run(ctx, fmt.Sprintf("swarm-%d", first+i), i) })
	}
	for k, b := range s.beats {
		wg.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				for i := k; i < len(drones) && ctx.Err() == nil; i += beatConns {
					b.beat(drones[i])
				}
				nap(ctx, max(protocol.BeatPeriod-time.Since(began), swarmPause))
			}
		})
	}
	answer := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := answer.Encode(swarmTally{Held: s.held.Load(), Stopped: s.stopped.Load(), Returns: s.returns.Load()}); err != nil {
			return err
		}
	}
	return nil
}
