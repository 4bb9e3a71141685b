package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"windlass/protocol"
)

// benchKey is the API key of servers that a bench starts on loopback for itself.
const benchKey = "windlass-bench-key-0001"

// endpointID is the endpoint that every job of a bench goes to.
const endpointID = "ep_bench"

// startLimit is how long a server may take to answer its first request.
const startLimit = 20 * time.Second

// server is one coordinator, or a cluster of several, with empty data
// directories. Every coordinator is a process of its own.
type server struct {
	addr  string // of the coordinator that leads
	nodes []*node
	dir   string
}

// node is one coordinator process.
type node struct {
	api  string
	peer string
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// startServer runs o.nodes times "windlass coordinator" of this binary; env is
// added to their environment.
func startServer(ctx context.Context, o options, env ...string) (*server, error) {
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make data directory: %w", err)
	}
	s := &server{dir: dir}
	for range max(o.nodes, 1) {
		n := &node{log: new(bytes.Buffer)}
		if n.api, err = freeAddr(); err != nil {
			return nil, err
		}
		if n.peer, err = freeAddr(); err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, n)
	}
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(benchKey+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write key: %w", err)
	}
	for i := range s.nodes {
		if err := s.startNode(ctx, i, keyFile, cmp.Or(o.level, "warn"), env); err != nil {
			s.stop()
			return nil, err
		}
	}
	if err := s.ready(); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.nodes[0].log.String())
	}
	return s, s.createEndpoint()
}

func (s *server) startNode(ctx context.Context, i int, keyFile, level string, env []string) error {
	n, config := s.nodes[i], filepath.Join(s.dir, fmt.Sprintf("config%d.yaml", i))
	text := fmt.Sprintf("data: %s\nhttp: {listen: %q}\npeer: {listen: %q}\nbootstrapKeyFile: %s\nlimits: {queue: 2000000}\nlog: {level: %s}\n",
		filepath.Join(s.dir, fmt.Sprintf("data%d", i)), n.api, n.peer, keyFile, level)
	if len(s.nodes) > 1 {
		text += fmt.Sprintf("expect: %d\njoin: [", len(s.nodes))
		for _, other := range s.nodes {
			text += strconv.Quote(other.peer) + ", "
		}
		text += "]\n"
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return fmt.Errorf("cannot write config: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	n.cmd = exec.CommandContext(ctx, exe, "coordinator", "-c", config)
	n.cmd.Stderr = n.log
	n.cmd.Env = append(os.Environ(), env...)
	n.cmd.Cancel = func() error { return n.cmd.Process.Signal(syscall.SIGTERM) }
	n.cmd.WaitDelay = 5 * time.Second
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the coordinator: %w", err)
	}
	return nil
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// ready waits until every coordinator answers and one of them leads.
func (s *server) ready() error {
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		up := 0
		for _, n := range s.nodes {
			if status, _, err := get(n.api, "/readyz"); err == nil && status == 200 {
				up++
			}
		}
		if up == len(s.nodes) && s.findLeader() {
			return nil
		}
	}
	return fmt.Errorf("the coordinators were not ready within %s", startLimit)
}

// findLeader points the server's address at the coordinator that leads.
func (s *server) findLeader() bool {
	for _, n := range s.nodes {
		status, text, err := get(n.api, "/v2/cluster")
		var doc protocol.ClusterStatus
		if err == nil && status == 200 && json.Unmarshal(text, &doc) == nil && doc.Leader {
			s.addr = n.api
			return true
		}
	}
	return false
}

func get(addr, path string) (int, []byte, error) {
	c, err := dial(addr, benchKey)
	if err != nil {
		return 0, nil, err
	}
	defer c.close()
	return c.do("GET", path, nil)
}

// addresses are where clients of a measurement go: to the leader, as a client
// that learned where it is, or with spread to all coordinators in turn.
func (s *server) addresses(spread bool) []string {
	if !spread {
		return []string{s.addr}
	}
	var all []string
	for _, n := range s.nodes {
		all = append(all, n.api)
	}
	return all
}

func (s *server) createEndpoint() error {
	c, err := dial(s.addr, benchKey)
	if err != nil {
		return err
	}
	defer c.close()
	doc := `{"id":"` + endpointID + `","runtime":{"kind":"builtin","handler":"echo"},"resources":{"cpu":true}}`
	status, answer, err := c.post("/v2/endpoints", []byte(doc))
	if err != nil {
		return fmt.Errorf("cannot create the endpoint: %w", err)
	}
	if status != 200 {
		return fmt.Errorf("cannot create the endpoint: %d %s", status, answer)
	}
	return nil
}

func (s *server) stop() {
	for _, n := range s.nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, n := range s.nodes {
		if n.cmd != nil && n.cmd.Process != nil {
			_ = n.cmd.Wait()
		}
	}
	_ = os.RemoveAll(s.dir)
}

// counters is what a server spent up to a moment.
type counters struct {
	cpu      float64 // seconds, user and system
	mallocs  float64
	syncs    float64
	logBytes float64
	heapLive float64
	stacks   float64
	queued   float64
	rss      float64
	requests float64 // answered, of clients and agents
}

// read adds up what all coordinators of the server spent.
func (s *server) read() (counters, error) {
	var sum counters
	for _, n := range s.nodes {
		c, err := scrape(n.api)
		if err != nil {
			return sum, err
		}
		sum.cpu += c.cpu
		sum.mallocs += c.mallocs
		sum.syncs += c.syncs
		sum.logBytes += c.logBytes
		sum.heapLive += c.heapLive
		sum.stacks += c.stacks
		sum.rss += c.rss
		sum.requests += c.requests
		sum.queued = max(sum.queued, c.queued) // the same jobs on each
	}
	return sum, nil
}

// scrape reads one coordinator's /metrics.
func scrape(addr string) (counters, error) {
	status, text, err := get(addr, "/metrics")
	if err != nil || status != 200 {
		return counters{}, fmt.Errorf("cannot read metrics: %d %w", status, err)
	}
	var out counters
	fields := map[string]*float64{
		"process_cpu_seconds_total": &out.cpu, "go_memstats_mallocs_total": &out.mallocs,
		"windlass_log_syncs_total": &out.syncs, "windlass_log_bytes_total": &out.logBytes,
		"go_gc_heap_live_bytes": &out.heapLive, "go_memstats_stack_inuse_bytes": &out.stacks,
		"process_resident_memory_bytes": &out.rss,
	}
	missing := len(fields)
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		name, value, ok := strings.Cut(scan.Text(), " ")
		v, _ := strconv.ParseFloat(value, 64)
		switch {
		case strings.HasPrefix(name, "windlass_queue_jobs"):
			out.queued += v
		case strings.HasPrefix(name, "windlass_http_requests_total"):
			out.requests += v
		}
		if p := fields[name]; ok && p != nil {
			if *p, err = strconv.ParseFloat(value, 64); err != nil {
				return counters{}, fmt.Errorf("cannot read metric %s: %w", name, err)
			}
			missing--
		}
	}
	if missing > 0 {
		return out, errors.New("cannot read metrics: the coordinator lacks one of those that a bench needs")
	}
	return out, nil
}
