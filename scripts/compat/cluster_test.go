//go:build compat

package compat

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/protocol/client"
)

const key = "compat-key-0123456789abcdef"

// Durations of real processes on a busy machine.
const (
	settleWait = 40 * time.Second // until a coordinator that was started keeps up
	stopWait   = 20 * time.Second // a coordinator stops by itself within 15 s
	look       = 50 * time.Millisecond
)

// process is one real process; its log is kept when the test fails.
type process struct {
	name string
	args []string
	log  string
	cmd  *exec.Cmd
	done chan error
}

func (p *process) start(t *testing.T, binary string) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	p.done = done
	go func(cmd *exec.Cmd) { done <- cmd.Wait() }(p.cmd)
}

// stop ends the process in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: %v\n%s", p.name, err, p.tail())
	}
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("%s stopped with %v\n%s", p.name, err, p.tail())
		}
	case <-time.After(stopWait):
		t.Errorf("%s does not stop", p.name)
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.cmd = nil
}

// kill ends what is still there when the test ends.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) tail() string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(raw), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// node is one coordinator with the version that it runs.
type node struct {
	process
	url     string
	binary  string
	version string
	client  *client.Client
}

// cluster is three coordinators and an agent.
type cluster struct {
	t      *testing.T
	nodes  []*node
	agent  *process
	client *client.Client
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newClient(t *testing.T, urls ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: urls, Key: key, UserAgent: "windlass-compat"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newCluster writes the configurations; nothing is started.
func newCluster(t *testing.T) *cluster {
	dir := t.TempDir()
	keyFile := write(t, filepath.Join(dir, "key"), key+"\n")
	c := &cluster{t: t}
	var peers, urls []string
	for range 3 {
		peers = append(peers, freeAddr(t))
		urls = append(urls, "http://"+freeAddr(t))
	}
	for i := range 3 {
		name := fmt.Sprint("coordinator-", i+1)
		config := fmt.Sprintf("id: %s\ndata: %s\nhttp: {listen: %q}\npeer: {listen: %q}\njoin: [%q, %q, %q]\nexpect: 3\nbootstrapKeyFile: %s\nlog: {level: info, format: json}\n",
			name, filepath.Join(dir, name), strings.TrimPrefix(urls[i], "http://"), peers[i], peers[0], peers[1], peers[2], keyFile)
		n := &node{url: urls[i], client: newClient(t, urls[i])}
		n.process = process{name: name, log: filepath.Join(dir, name+".log"), args: []string{"coordinator", "-c", write(t, filepath.Join(dir, name+".yaml"), config)}}
		c.nodes = append(c.nodes, n)
		t.Cleanup(n.kill)
	}
	c.client = newClient(t, urls...)
	agent := fmt.Sprintf("name: agent-1\ndata: %s\ncoordinators: [%q, %q, %q]\ncredentialFile: %s\nslots: 8\ngpu: {mode: none}\nhttp: {listen: \"127.0.0.1:0\"}\nruntimes: {allow: [builtin]}\nlog: {level: info}\n",
		filepath.Join(dir, "agent-1"), urls[0], urls[1], urls[2], keyFile)
	c.agent = &process{name: "agent-1", log: filepath.Join(dir, "agent-1.log"), args: []string{"agent", "-c", write(t, filepath.Join(dir, "agent-1.yaml"), agent)}}
	t.Cleanup(c.agent.kill)
	return c
}

// run starts a coordinator in a version.
func (c *cluster) run(n *node, binary, version string) {
	c.t.Helper()
	n.binary, n.version = binary, version
	n.start(c.t, binary)
}

// until waits for something that the cluster does by itself.
func (c *cluster) until(what string, ok func(ctx context.Context) bool) {
	c.t.Helper()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for end := time.Now().Add(settleWait); ; <-tick.C {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		done := ok(ctx)
		cancel()
		if done {
			return
		}
		if time.Now().After(end) {
			for _, n := range c.nodes {
				c.t.Logf("%s (%s):\n%s", n.name, n.version, n.tail())
			}
			c.t.Logf("%s:\n%s", c.agent.name, c.agent.tail())
			c.t.Fatalf("not within %s: %s", settleWait, what)
		}
	}
}

// whole waits until all three vote, answer, and have applied what the others have.
func (c *cluster) whole() {
	c.t.Helper()
	var seen string
	defer func() {
		if c.t.Failed() {
			c.t.Logf("last seen: %s", seen)
		}
	}()
	c.until("three coordinators that keep up", func(ctx context.Context) bool {
		for _, n := range c.nodes {
			m, err := n.client.ClusterMembers(ctx)
			if err != nil || len(m.Members) != 3 || !m.Healthy && !(n.version == previousVersion && falseAlarm(m)) {
				seen = fmt.Sprintf("%s: %+v, %v", n.name, m, err)
				return false
			}
		}
		return true
	})
}

// falseAlarm reports whether all that a coordinator finds wrong is that digests of two
// encodings differ, which the version before did not tell from states that differ.
func falseAlarm(m protocol.ClusterMembers) bool {
	encodings := make(map[string]string)
	for _, member := range m.Members {
		if member.Checkpoint == nil {
			continue
		}
		encoding, _, _ := strings.Cut(member.Checkpoint.Digest, ":")
		key := fmt.Sprint(member.Checkpoint.Index, ":", encoding)
		if d, ok := encodings[key]; ok && d != member.Checkpoint.Digest {
			return false
		}
		encodings[key] = member.Checkpoint.Digest
	}
	for _, f := range m.Findings {
		if !strings.HasPrefix(f, "states differ") && !strings.HasPrefix(f, "versions differ") {
			return false
		}
	}
	return true
}

// roll replaces one coordinator by another version, under whatever goes on.
func (c *cluster) roll(n *node, binary, version string) {
	c.t.Helper()
	n.stop(c.t)
	c.run(n, binary, version)
	c.whole()
}

// leader is who leads.
func (c *cluster) leader() *node {
	c.t.Helper()
	var found *node
	c.until("a leader", func(ctx context.Context) bool {
		for _, n := range c.nodes {
			if s, err := n.client.Cluster(ctx, false); err == nil && s.Leader {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// lead makes a coordinator the leader.
func (c *cluster) lead(n *node) {
	c.t.Helper()
	c.until(n.name+" leads", func(ctx context.Context) bool {
		s, err := n.client.Cluster(ctx, false)
		if err == nil && !s.Leader {
			_ = c.client.TransferLeader(ctx, s.Node) // the next look tells
			s, err = n.client.Cluster(ctx, false)
		}
		return err == nil && s.Leader
	})
}

// supports is the highest feature level of a coordinator's version.
func (c *cluster) supports(n *node) (level uint32) {
	c.t.Helper()
	c.until("the members", func(ctx context.Context) bool {
		m, err := n.client.ClusterMembers(ctx)
		if err != nil {
			return false
		}
		for _, member := range m.Members {
			if member.Self {
				level = member.Features[1]
			}
		}
		return true
	})
	return level
}

// raisedToNewest reports whether a log tells of the newest level, not of one before.
func raisedToNewest(log string) bool {
	level := fmt.Sprintf(`"level":%d,`, command.FeatureMax)
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, levelRaised) && strings.Contains(line, level) {
			return true
		}
	}
	return false
}

// The lines that tell of feature levels; operators are told to look for them.
const (
	levelRaised  = "every coordinator supports this feature level"
	levelRefused = "start the version that the other coordinators run"
)

// refuses starts a coordinator in a version that the cluster has outgrown: it must
// end by itself and say what to do, and lose nothing by it.
func (c *cluster) refuses(n *node, old, binary string) {
	c.t.Helper()
	c.until("the feature level to rise", func(context.Context) bool {
		for _, n := range c.nodes {
			if raw, err := os.ReadFile(n.log); err == nil && raisedToNewest(string(raw)) {
				return true
			}
		}
		return false
	})
	n.stop(c.t)
	n.start(c.t, old)
	select {
	case err := <-n.done:
		if err == nil || !strings.Contains(n.tail(), levelRefused) {
			c.t.Errorf("%s in the version before ended with %v\n%s", n.name, err, n.tail())
		}
	case <-time.After(settleWait):
		c.t.Errorf("%s runs in a version that does not support the cluster's level", n.name)
		_ = n.cmd.Process.Kill()
		<-n.done
	}
	n.cmd = nil
	c.run(n, binary, n.version)
	c.whole()
}

// same waits until all have applied the same entry, and compares their states.
func (c *cluster) same() {
	c.t.Helper()
	var all []protocol.ClusterStatus
	c.until("the same index everywhere", func(ctx context.Context) bool {
		all = all[:0]
		for _, n := range c.nodes {
			s, err := n.client.Cluster(ctx, true)
			if err != nil {
				return false
			}
			all = append(all, s)
		}
		return all[0].Index == all[1].Index && all[1].Index == all[2].Index
	})
	for i, s := range all[1:] {
		a, b := c.nodes[0], c.nodes[i+1]
		if a.version == b.version && s.Digest != all[0].Digest {
			c.t.Errorf("%s (%s) has state %s at %d, %s (%s) has %s", b.name, b.version, s.Digest, s.Index, a.name, a.version, all[0].Digest)
		}
		if s.Jobs != all[0].Jobs || s.Bytes != all[0].Bytes {
			c.t.Errorf("%s (%s) counts %+v in %d bytes, %s (%s) %+v in %d", b.name, b.version, s.Jobs, s.Bytes, a.name, a.version, all[0].Jobs, all[0].Bytes)
		}
	}
}
