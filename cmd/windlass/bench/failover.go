package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"windlass/protocol"
)

const (
	// failoverNodes is the smallest cluster that outlives a coordinator.
	failoverNodes = 3

	// swarms is how many processes hold the agents: each has its own limit of
	// open files.
	swarms = 2

	// failoverLimit bounds every wait of the measurement.
	failoverLimit = 3 * time.Minute

	// failoverPoll is how exactly the moments are known.
	failoverPoll = 100 * time.Millisecond
)

// runFailover kills the leader under a fleet that holds a job on every agent.
func runFailover(ctx context.Context, o options) error {
	o.nodes = max(o.nodes, failoverNodes)
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	fleet, err := startSwarms(ctx, s, o.agents)
	if err != nil {
		return err
	}
	defer fleet.stop()
	if err := (&load{addrs: []string{s.addr}}).closed(ctx, o.clients, int64(o.agents)); err != nil {
		return err
	}
	want := float64(o.agents)
	if err := s.await(ctx, func(l leaderView) bool { return l.leased == want && l.parked == want }); err != nil {
		return fmt.Errorf("cannot bring the fleet up: %w", err)
	}
	old := s.addr
	killed := time.Now()
	if err := s.kill(old); err != nil {
		return err
	}
	submitted, err := s.firstSubmit(ctx, killed)
	if err != nil {
		return err
	}
	before, err := scrape(s.addr)
	if err != nil {
		return err
	}
	from := time.Now()
	// One more job is in the queue now, and no agent is free for it.
	if err := s.await(ctx, func(l leaderView) bool { return l.parked >= want }); err != nil {
		return fmt.Errorf("cannot see the fleet come back: %w", err)
	}
	parked := time.Since(killed)
	after, err := scrape(s.addr)
	if err != nil {
		return err
	}
	core := (after.cpu - before.cpu) / time.Since(from).Seconds()
	// Past the fresh term of every lease: what was not renewed is lost now.
	nap(ctx, protocol.LeaseTerm+failoverMargin)
	end, err := s.look()
	if err != nil {
		return err
	}
	t, err := fleet.ask()
	if err != nil {
		return err
	}
	return print(o.out, fmt.Sprintf("failover, %d coordinators, %d agents that hold a job each, leader killed", o.nodes, o.agents),
		row{"first submit taken after", submitted.Round(time.Millisecond).String()},
		row{"all agents parked again after", parked.Round(time.Millisecond).String()},
		row{"CPU of the new leader meanwhile", fmt.Sprintf("%.2f of a core", core)},
		row{"leases held afterwards", fmt.Sprintf("%.0f of %d", end.leased, o.agents)},
		row{"attempts taken away", fmt.Sprint(t.Stopped)})
}

// failoverMargin is more than a beat, so that an expiry that is due has happened.
const failoverMargin = 10 * time.Second

// leaderView is what the coordinator that leads counts.
type leaderView struct{ leased, parked float64 }

func (s *server) look() (leaderView, error) {
	var v leaderView
	status, text, err := get(s.addr, "/metrics")
	if err != nil || status != 200 {
		return v, fmt.Errorf("cannot read metrics: %d %w", status, err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "windlass_jobs_leased":
			v.leased, err = strconv.ParseFloat(value, 64)
		case "windlass_agent_polls_inflight":
			v.parked, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return v, err
		}
	}
	return v, nil
}

func (s *server) await(ctx context.Context, ok func(leaderView) bool) error {
	var v leaderView
	for end := time.Now().Add(failoverLimit); time.Now().Before(end) && ctx.Err() == nil; nap(ctx, failoverPoll) {
		var err error
		if v, err = s.look(); err == nil && ok(v) {
			return nil
		}
	}
	return fmt.Errorf("after %s %.0f jobs are held and %.0f agents parked", failoverLimit, v.leased, v.parked)
}

// kill ends the coordinator at an address without a warning and forgets it.
func (s *server) kill(addr string) error {
	for i, n := range s.nodes {
		if n.api == addr {
			s.nodes = append(s.nodes[:i:i], s.nodes[i+1:]...)
			err := n.cmd.Process.Signal(syscall.SIGKILL)
			_ = n.cmd.Wait() // it was killed
			return err
		}
	}
	return errors.New("cannot kill the leader: it is not ours")
}

// firstSubmit tries the coordinators in turn; it returns how long after a
// moment one took a job, and finds the new leader.
func (s *server) firstSubmit(ctx context.Context, since time.Time) (time.Duration, error) {
	body := submitBody()
	for i := 0; time.Since(since) < failoverLimit && ctx.Err() == nil; i++ {
		c, err := dial(s.nodes[i%len(s.nodes)].api, benchKey)
		if err == nil {
			_, err = submit(c, body)
			c.close()
		}
		if err == nil {
			took := time.Since(since)
			if !s.findLeader() {
				return took, errors.New("cannot find the new leader")
			}
			return took, nil
		}
		nap(ctx, 10*time.Millisecond)
	}
	return 0, fmt.Errorf("no coordinator took a job within %s", failoverLimit)
}

// swarmSet is the processes that hold the agents.
type swarmSet struct {
	cmds []*exec.Cmd
	in   []io.WriteCloser
	out  []*bufio.Scanner
}

func startSwarms(ctx context.Context, s *server, agents int) (*swarmSet, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	set := &swarmSet{}
	for i := range swarms {
		first, end := agents*i/swarms, agents*(i+1)/swarms
		cmd := exec.CommandContext(ctx, exe, "bench", "swarm", strings.Join(s.addresses(true), ","), strconv.Itoa(first), strconv.Itoa(end-first))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			set.stop()
			return nil, fmt.Errorf("cannot start agents: %w", err)
		}
		set.cmds, set.in, set.out = append(set.cmds, cmd), append(set.in, in), append(set.out, bufio.NewScanner(out))
	}
	return set, nil
}

func (set *swarmSet) ask() (swarmTally, error) {
	var sum swarmTally
	for i := range set.cmds {
		var t swarmTally
		if _, err := io.WriteString(set.in[i], "count\n"); err != nil {
			return sum, fmt.Errorf("cannot ask the agents: %w", err)
		}
		if !set.out[i].Scan() {
			return sum, fmt.Errorf("cannot ask the agents: %w", set.out[i].Err())
		}
		if err := json.Unmarshal(set.out[i].Bytes(), &t); err != nil {
			return sum, err
		}
		sum.Held += t.Held
		sum.Stopped += t.Stopped
		sum.Returns += t.Returns
	}
	return sum, nil
}

func (set *swarmSet) stop() {
	for i := range set.cmds {
		_ = set.in[i].Close()
	}
	for _, cmd := range set.cmds {
		_ = cmd.Wait()
	}
}
