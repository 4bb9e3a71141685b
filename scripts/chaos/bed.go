package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/scripts/chaos/record"
	"windlass/scripts/chaos/wire"
)

// world is what all beds of a run share.
type world struct {
	binary string
	kernel bool // the network is the kernel's, else one of proxies
	beds   atomic.Int64
}

// bed is one scenario's coordinators, agents and records.
type bed struct {
	*world
	dir    string
	rand   *rand.Rand // of the goroutine that injects faults
	log    *record.Log
	client *client.Client // over all coordinators
	nodes  []*node
	net    wire.Network // between the coordinators
	next   atomic.Int64 // task numbers
	point  string       // the endpoint that jobs are for; "": endpoint
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	agents   []*proc
	injected int
	tasks    map[int]protocol.JobID // acknowledged
	stalls   record.History         // nothing but the stalls
}

const bedKey = "windlass-chaos-key-0001"

// newBed prepares a cluster of so many coordinators; nothing is started.
func newBed(w *world, random *rand.Rand, coordinators int) (*bed, error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &bed{world: w, dir: dir, rand: random, stop: stop, tasks: make(map[int]protocol.JobID)}
	if b.log, err = record.Create(dir); err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.path("key"), []byte(bedKey+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := b.join(coordinators); err != nil {
		return nil, err
	}
	b.client, err = client.New(client.Config{Addrs: b.bases(), Key: bedKey, UserAgent: "windlass-chaos"})
	b.work.Go(func() { b.watchProcessor(ctx) })
	b.work.Go(func() { b.watchDisk(ctx) })
	return b, err
}

// join makes the coordinators and the network between them.
func (b *bed) join(coordinators int) (err error) {
	if b.net, err = b.network(); err != nil {
		return err
	}
	for i := range coordinators {
		n, err := newNode(b, fmt.Sprint("c", i+1))
		if err != nil {
			return err
		}
		b.nodes = append(b.nodes, n)
	}
	if err := b.issue(); err != nil {
		return err
	}
	for _, n := range b.nodes {
		if err := n.configure(""); err != nil {
			return err
		}
	}
	return b.net.Connect()
}

func (b *bed) network() (wire.Network, error) {
	if b.kernel {
		return wire.NewKernel(int(b.beds.Add(1)), b.route)
	}
	return wire.NewProxies(b.route), nil
}

// route tells a coordinator where to dial its peers (cmd/windlass/chaos_on.go).
func (b *bed) route(name string, detours map[string]string) error {
	var table strings.Builder
	for peer, other := range detours {
		table.WriteString(peer + " " + other + "\n")
	}
	for _, n := range b.nodes {
		if n.name == name {
			return n.strike("peers", table.String())
		}
	}
	return fmt.Errorf("cannot route %s: there is no such coordinator", name)
}

// issue makes the coordinators' certificates where their peer ports are open to
// more than this host's loopback.
func (b *bed) issue() error {
	if !b.net.Foreign() {
		return nil
	}
	if err := os.Mkdir(b.path("tls"), 0o700); err != nil {
		return err
	}
	if err := tool(b.binary, "tls", "init", "--dir", b.path("tls")); err != nil {
		return err
	}
	for _, n := range b.nodes {
		host, _, err := net.SplitHostPort(n.peer)
		if err != nil {
			return err
		}
		if err := tool(b.binary, "tls", "issue", n.name, "--dir", b.path("tls"), "--host", host); err != nil {
			return err
		}
	}
	return nil
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) runsFile() string { return b.path(record.RunsFile) }

// bases are the base URLs of all coordinators.
func (b *bed) bases() []string {
	var out []string
	for _, n := range b.nodes {
		out = append(out, "http://"+n.api)
	}
	return out
}

// How often the harness looks whether it gets a processor and a disk; what takes
// longer than these sizes is written down. A disk of today syncs in a few
// milliseconds, a processor is there in less.
const (
	stallLook     = 50 * time.Millisecond
	stallSize     = 20 * time.Millisecond
	diskLook      = 200 * time.Millisecond
	diskStallSize = 50 * time.Millisecond
)

// watchProcessor writes down when this machine was too busy for the harness
// itself, so that a slow machine is not taken for a slow failover.
func (b *bed) watchProcessor(ctx context.Context) {
	for {
		before := record.Now()
		if pause(ctx, stallLook) != nil {
			return
		}
		if late := record.Span(before, record.Now()) - stallLook; late > stallSize {
			b.stall(record.Stall{At: before, Span: int64(late)})
		}
	}
}

func (b *bed) stall(s record.Stall) {
	b.log.Stall(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalls.Stalls = append(b.stalls.Stalls, s)
}

// own is how much time passed since then that this machine did not spoil.
func (b *bed) own(since int64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := record.Now()
	return record.Span(since, now) - time.Duration(b.stalls.Stolen(since, now))
}

// spoiled reports whether this machine took a good part of the time since then.
func (b *bed) spoiled(since int64) bool {
	return b.own(since) < record.Span(since, record.Now())*3/4
}

// watchDisk does the same for the disk that the coordinators' data is on.
func (b *bed) watchDisk(ctx context.Context) {
	f, err := os.Create(b.path("sync"))
	if err != nil {
		return // then it is not the disk's speed that this run fails by
	}
	defer f.Close()
	for pause(ctx, diskLook) == nil {
		before := record.Now()
		_, werr := f.WriteAt(make([]byte, 4<<10), 0)
		if errors.Join(werr, f.Sync()) != nil {
			return
		}
		if took := record.Span(before, record.Now()); took > diskStallSize {
			b.stall(record.Stall{At: before, Span: int64(took)})
		}
	}
}

// proc is one real process.
type proc struct {
	name string
	args []string
	env  []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

func (b *bed) spawn(p *proc) error {
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.binary, p.args...)
	cmd.Stderr, cmd.Stdout = log, log
	cmd.Env = append(append(os.Environ(), "CHAOS_BED="+b.dir), p.env...)
	if err := b.net.Start(p.name, cmd); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	b.work.Go(func() {
		_ = cmd.Wait()
		if slices.ContainsFunc(b.nodes, func(n *node) bool { return n.proc == p }) {
			b.log.Exit(record.Exit{Node: p.name, At: record.Now()})
		}
		close(done)
	})
	return nil
}

// over is closed when the newest process has ended.
func (p *proc) over() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *proc) alive() bool {
	done := p.over()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func (p *proc) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return errors.New(p.name + " was never started")
	}
	return p.cmd.Process.Signal(s)
}

// killed reports whether the newest process, which has ended, was ended by kill -9.
func (p *proc) killed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// kill is kill -9, and waits until the process is gone.
func (p *proc) kill() {
	if p.signal(syscall.SIGKILL) == nil {
		<-p.over()
	}
}

// agentEnv tells a handler on which agent it runs.
const agentEnv = "CHAOS_AGENT"

// startAgent starts an agent that reaches the coordinators at these base URLs.
func (b *bed) startAgent(name string, slots int, bases ...string) (*proc, error) {
	if len(bases) == 0 {
		bases = b.bases()
	}
	config := fmt.Sprintf("name: %s\ndata: %s\ncoordinators: [\"%s\"]\ncredentialFile: %s\nslots: %d\ngpu: {mode: none}\nhttp: {listen: \"127.0.0.1:0\"}\nruntimes: {allow: [command, builtin]}\nlog: {level: info}\n",
		name, b.path(name), strings.Join(bases, `", "`), b.path("key"), slots)
	file := b.path(name + ".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p := &proc{name: name, args: []string{"agent", "-c", file}, env: []string{agentEnv + "=" + name}, log: b.path(name + ".log")}
	b.mu.Lock()
	b.agents = append(b.agents, p)
	b.mu.Unlock()
	return p, b.spawn(p)
}

// createEndpoint makes an endpoint whose runtime is this program's handler. It
// does one job at a time, so an agent runs one instance for each slot.
func (b *bed) createEndpoint(ctx context.Context, id, mode string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = b.client.ApplyEndpoint(ctx, protocol.Endpoint{
		ID: id, Resources: protocol.ResourceSpec{CPU: true},
		Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{self}, Env: map[string]protocol.EnvValue{
			handlerEnv: {Literal: mode}, startsEnv: {Literal: b.runsFile()}, agentEnv: {FromEnv: agentEnv},
		}},
	})
	return err
}

// endpoint is the one that most jobs are for.
const endpoint = "ep_chaos"

// simple starts the coordinators, one agent and the endpoint.
func (b *bed) simple(ctx context.Context, slots int) error {
	if err := b.startAll(ctx); err != nil {
		return err
	}
	_, err := b.startAgent("agent-1", slots)
	return err
}

// startAll starts the coordinators and makes the endpoint.
func (b *bed) startAll(ctx context.Context) error {
	for _, n := range b.nodes {
		if err := b.spawn(n.proc); err != nil {
			return err
		}
	}
	for _, n := range b.nodes {
		if err := n.ready(ctx); err != nil {
			return err
		}
	}
	return b.createEndpoint(ctx, endpoint, "run")
}

func (b *bed) procs() []*proc {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := slices.Clone(b.agents)
	for _, n := range b.nodes {
		out = append(out, n.proc)
	}
	return out
}

// end stops everything.
func (b *bed) end() {
	b.log.Ending()
	if err := b.net.Heal(); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	for _, p := range b.procs() {
		if p.alive() {
			_ = p.signal(syscall.SIGCONT)
			_ = p.signal(syscall.SIGTERM)
		}
	}
	for _, p := range b.procs() {
		if !p.alive() {
			continue
		}
		select {
		case <-p.over():
		case <-time.After(5 * time.Second):
			p.kill()
		}
	}
	b.stop()
	b.work.Wait()
	b.sweep()
	if err := errors.Join(b.net.Close(), b.log.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: cannot end the run:", err)
	}
}

// sweep ends what agents leave alive on purpose: shims, whose arguments name
// the folder, and their runtimes, whose environment does.
func (b *bed) sweep() {
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return
	}
	for _, file := range procs {
		env, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err != nil || !strings.Contains(string(env)+string(args), b.dir) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func (b *bed) remove() error { return os.RemoveAll(b.dir) }

// tail is the end of every log, for a failure.
func (b *bed) tail() string {
	var out strings.Builder
	for _, p := range b.procs() {
		text, err := os.ReadFile(p.log)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(p.log), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
	return out.String()
}

// pause waits, or returns why it could not.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}
