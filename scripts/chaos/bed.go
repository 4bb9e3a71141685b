package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

// totals are the columns of the table.
type totals struct {
	injected, acknowledged, lost, twice, wrongOutput int
}

// bed is one scenario's coordinator, agents and records.
type bed struct {
	binary string
	dir    string
	rand   *rand.Rand
	api    string // address of the coordinator
	starts string
	client *client.Client

	coordinator *proc
	agents      []*proc
	totals      totals
	logs        []string
}

const bedKey = "windlass-chaos-key-0001"

func newBed(binary string, random *rand.Rand) (*bed, error) {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return nil, err
	}
	b := &bed{binary: binary, dir: dir, rand: random, starts: filepath.Join(dir, "starts")}
	if b.api, err = freeAddr(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.path("key"), []byte(bedKey+"\n"), 0o600); err != nil {
		return nil, err
	}
	b.client, err = client.New(client.Config{Addrs: []string{"http://" + b.api}, Key: bedKey, UserAgent: "windlass-chaos"})
	return b, err
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// proc is one real process.
type proc struct {
	name string
	args []string
	log  string
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
	cmd.Env = append(os.Environ(), "CHAOS_BED="+b.dir)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start %s: %w", p.name, err)
	}
	p.cmd = cmd
	p.done = make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return nil
}

func (p *proc) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *proc) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// kill is kill -9, and waits until the process is gone.
func (p *proc) kill() {
	_ = p.signal(syscall.SIGKILL)
	<-p.done
}

// startCoordinator starts it on its address and waits until it is ready.
func (b *bed) startCoordinator(ctx context.Context) error {
	if b.coordinator == nil {
		peer, err := freeAddr()
		if err != nil {
			return err
		}
		config := fmt.Sprintf("data: %s\nhttp: {listen: %q}\npeer: {listen: %q}\nbootstrapKeyFile: %s\nlog: {level: info}\n", b.path("coordinator-data"), b.api, peer, b.path("key"))
		if err := os.WriteFile(b.path("coordinator.yaml"), []byte(config), 0o600); err != nil {
			return err
		}
		b.coordinator = &proc{name: "coordinator", args: []string{"coordinator", "-c", b.path("coordinator.yaml")}, log: b.path("coordinator.log")}
		b.logs = append(b.logs, b.coordinator.log)
	}
	if err := b.spawn(b.coordinator); err != nil {
		return err
	}
	return b.ready(ctx)
}

func (b *bed) ready(ctx context.Context) error {
	for {
		if b.isReady(ctx) {
			return nil
		}
		if !b.coordinator.alive() {
			return errors.New("the coordinator ended while starting")
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the coordinator was never ready: %w", err)
		}
	}
}

// isReady asks once; the client of the other calls would wait and repeat.
func (b *bed) isReady(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.api+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// startAgent starts an agent that reaches the coordinator at addr.
func (b *bed) startAgent(name, addr string, slots int) (*proc, error) {
	config := fmt.Sprintf("name: %s\ndata: %s\ncoordinators: [\"http://%s\"]\ncredentialFile: %s\nslots: %d\ngpu: {mode: none}\nhttp: {listen: \"127.0.0.1:0\"}\nruntimes: {allow: [command, builtin]}\nlog: {level: info}\n",
		name, b.path(name), addr, b.path("key"), slots)
	file := b.path(name + ".yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p := &proc{name: name, args: []string{"agent", "-c", file}, log: b.path(name + ".log")}
	b.agents = append(b.agents, p)
	b.logs = append(b.logs, p.log)
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
			handlerEnv: {Literal: mode}, startsEnv: {Literal: b.starts},
		}},
	})
	return err
}

// simple starts a coordinator, one agent and the endpoint ep_chaos.
func (b *bed) simple(ctx context.Context, slots int) error {
	if err := b.startCoordinator(ctx); err != nil {
		return err
	}
	if err := b.createEndpoint(ctx, "ep_chaos", "run"); err != nil {
		return err
	}
	_, err := b.startAgent("agent-1", b.api, slots)
	return err
}

func (b *bed) stop() {
	for _, p := range append(b.agents, b.coordinator) {
		if p == nil || p.cmd == nil || !p.alive() {
			continue
		}
		_ = p.signal(syscall.SIGCONT)
		_ = p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
	}
	b.sweep()
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
	for _, file := range b.logs {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(file), strings.Join(lines[max(0, len(lines)-15):], "\n"))
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
