package bench

import (
	"bufio"
	"bytes"
	"context"
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
)

// benchKey is the API key of servers that a bench starts on loopback for itself.
const benchKey = "windlass-bench-key-0001"

// endpointID is the endpoint that every job of a bench goes to.
const endpointID = "ep_bench"

// startLimit is how long a server may take to answer its first request.
const startLimit = 20 * time.Second

// server is one coordinator process with an empty data directory.
type server struct {
	addr string
	cmd  *exec.Cmd
	dir  string
	log  *bytes.Buffer
}

// startServer runs "windlass coordinator" of this binary; env is added to its environment.
func startServer(ctx context.Context, dir string, env ...string) (*server, error) {
	api, err := freeAddr()
	if err != nil {
		return nil, err
	}
	peer, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir, err = os.MkdirTemp(dir, "bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make data directory: %w", err)
	}
	keyFile, config := filepath.Join(dir, "key"), filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(keyFile, []byte(benchKey+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write key: %w", err)
	}
	text := fmt.Sprintf("data: %s\nhttp: {listen: %q}\npeer: {listen: %q}\nbootstrapKeyFile: %s\nlimits: {queue: 2000000}\nlog: {level: warn}\n", filepath.Join(dir, "data"), api, peer, keyFile)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write config: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{addr: api, dir: dir, log: new(bytes.Buffer), cmd: exec.CommandContext(ctx, exe, "coordinator", "-c", config)}
	s.cmd.Stderr = s.log
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the coordinator: %w", err)
	}
	if err := s.ready(); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.log.String())
	}
	return s, s.createEndpoint()
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func (s *server) ready() error {
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := dial(s.addr, benchKey)
		if err != nil {
			continue
		}
		status, _, err := c.do("GET", "/readyz", nil)
		c.close()
		if err == nil && status == 200 {
			return nil
		}
	}
	return fmt.Errorf("the coordinator was not ready within %s", startLimit)
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
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	_ = s.cmd.Wait()
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
}

// read scrapes /metrics.
func (s *server) read() (counters, error) {
	c, err := dial(s.addr, benchKey)
	if err != nil {
		return counters{}, err
	}
	defer c.close()
	status, text, err := c.do("GET", "/metrics", nil)
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
		if strings.HasPrefix(name, "windlass_jobs_queued") {
			v, _ := strconv.ParseFloat(value, 64)
			out.queued += v
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
