package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The organisations. Home is the first one, which has the jobs.
const (
	home  = "org_default"
	thief = "org_thief"
)

// canary is a text that must be found nowhere but in what home is answered.
const canary = "canary-7f3a9c51"

// victim is a running `windlass dev`.
type victim struct {
	cmd  *exec.Cmd
	addr string // http://host:port
	key  string // of home, for everything
	// thiefKey may do everything that does not need cluster:admin, in its own organisation.
	thiefKey string
	job      string // a job of home that has ended
	log      syncBuffer
	out      io.ReadCloser
}

// syncBuffer is the program's log, bounded by what one run can write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newVictim(ctx context.Context, binary string) (*victim, error) {
	v := &victim{cmd: exec.Command(binary, "dev", "--http", "127.0.0.1:0", "--log-level", "debug")}
	v.cmd.Stderr = &v.log
	var err error
	if v.out, err = v.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := v.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w; run make build first", binary, err)
	}
	lines := bufio.NewScanner(v.out)
	for (v.addr == "" || v.key == "") && lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if a, ok := strings.CutPrefix(line, "export WINDLASS_ADDR="); ok {
			v.addr = a
		}
		if k, ok := strings.CutPrefix(line, "export WINDLASS_API_KEY="); ok {
			v.key = k
		}
	}
	if err := v.furnish(ctx); err != nil {
		v.stop()
		return nil, err
	}
	return v, nil
}

// furnish makes the thief and a job worth stealing.
func (v *victim) furnish(ctx context.Context) error {
	if a := v.do(ctx, v.key, "POST", "/v2/orgs", `{"id": "`+thief+`"}`); a.status != http.StatusOK {
		return fmt.Errorf("cannot make an organisation: %s", a)
	}
	var err error
	if v.thiefKey, err = v.newKey(ctx, thief, "jobs:read", "jobs:write", "endpoints:execute", "endpoints:write", "agents:manage", "keys:manage"); err != nil {
		return err
	}
	a := v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", `{"input": {"secret": "`+canary+`"}, "idempotencyKey": "key-of-home", "tags": {"owner": "`+canary+`"}}`)
	v.job, _ = a.doc["jobId"].(string)
	if a.status != http.StatusOK {
		return fmt.Errorf("cannot submit: %s", a)
	}
	if a := v.do(ctx, v.key, "POST", "/v2/ep_echo/status-sync/"+v.job, ""); a.status == 0 {
		return errors.New("cannot wait for the job")
	}
	return v.await(ctx, v.job)
}

// await waits for the end of a job.
func (v *victim) await(ctx context.Context, job string) error {
	for {
		a := v.do(ctx, v.key, "GET", "/v2/jobs/"+job+"/status?wait=10s", "")
		switch a.doc["status"] {
		case "completed", "failed", "cancelled", "timeout":
			return nil
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("cannot read job %s: %s", job, a)
		}
	}
}

func (v *victim) newKey(ctx context.Context, org string, permissions ...string) (string, error) {
	body, err := json.Marshal(map[string]any{"org": org, "permissions": permissions})
	if err != nil {
		return "", err
	}
	a := v.do(ctx, v.key, "POST", "/v2/keys", string(body))
	text, _ := a.doc["key"].(string)
	if text == "" {
		return "", fmt.Errorf("cannot make a key: %s", a)
	}
	return text, nil
}

func (v *victim) stop() {
	_ = v.cmd.Process.Signal(syscall.SIGINT)
	_, _ = io.Copy(io.Discard, v.out)
	_ = v.cmd.Wait()
}

// healthy fails when the victim suffered: it answers at once, and has not
// panicked.
func (v *victim) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if a := v.do(ctx, v.key, "GET", "/readyz", ""); a.status != http.StatusOK {
		return fmt.Errorf("the coordinator is not well afterwards: %s", a)
	}
	if log := v.log.String(); strings.Contains(log, "panic") {
		return errors.New("a handler panicked; the log says where")
	}
	return nil
}

// resident is the memory of the process, in bytes.
func (v *victim) resident() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("cannot read the victim's memory: %w", err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	return kib << 10, err
}

// answer is one answer; status 0 is none.
type answer struct {
	status int
	header http.Header
	raw    []byte
	doc    map[string]any
	err    error
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %.300s", a.status, a.raw)
}

func (v *victim) do(ctx context.Context, key, method, path, body string, header ...string) answer {
	req, err := http.NewRequestWithContext(ctx, method, v.addr+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw, err: err}
	_ = json.Unmarshal(raw, &a.doc)
	return a
}

// dial opens a connection to the victim.
func (v *victim) dial() (net.Conn, error) {
	u, err := url.Parse(v.addr)
	if err != nil {
		return nil, err
	}
	return net.DialTimeout("tcp", u.Host, 5*time.Second)
}

// raw sends bytes as they are and returns what came within a second of silence.
func (v *victim) raw(text string) (string, error) {
	conn, err := v.dial()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return string(got), err
}
