package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// faktoryVersion is the server that is built.
const faktoryVersion = "github.com/contribsys/faktory/cmd/faktory@v1.10.0"

// faktory runs the server, which starts its own Redis, and makes that Redis
// sync every command; the server's default would lose acknowledged jobs.
type faktory struct {
	bin  string
	addr string
	seq  atomic.Int64
}

func newFaktory() queue { return &faktory{} }

func (q *faktory) ready(ctx context.Context) error {
	if err := apt(ctx, "redis-server", "redis-server"); err != nil {
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "windlass-peers")
	q.bin = filepath.Join(dir, "faktory")
	if _, err := os.Stat(q.bin); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", faktoryVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build it: %w: %s", err, tail(string(out)))
	}
	return nil
}

func (q *faktory) start(ctx context.Context, dir string) (func(), error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	web, err := freePort()
	if err != nil {
		return nil, err
	}
	q.addr = fmt.Sprintf("127.0.0.1:%d", port)
	env := []string{"HOME=" + dir}
	stop, err := process(ctx, dir, env, q.bin, "-b", q.addr, "-w", fmt.Sprintf("127.0.0.1:%d", web), "-e", "development")
	if err != nil {
		return nil, err
	}
	err = listening(ctx, q.addr)
	if err == nil {
		err = q.harden(dir)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// harden finds the Redis of the server by its socket and makes it durable.
func (q *faktory) harden(dir string) error {
	var sock string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSocket != 0 {
			sock = path
		}
		return nil
	})
	if err != nil {
		return err
	}
	if sock == "" {
		return errors.New("the server's Redis has no socket below its home")
	}
	for _, set := range [][2]string{{"save", ""}, {"appendonly", "yes"}, {"appendfsync", "always"}} {
		if out, err := exec.Command("redis-cli", "-s", sock, "CONFIG", "SET", set[0], set[1]).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
			return fmt.Errorf("cannot make its Redis durable: %s: %w", tail(string(out)), err)
		}
	}
	return nil
}

func (q *faktory) open(context.Context, int) (session, error) { return q, nil }

func (q *faktory) close() {}

// faktoryConn speaks the server's line protocol.
type faktoryConn struct {
	c net.Conn
	r *bufio.Reader
}

func (q *faktory) dial(worker bool) (*faktoryConn, error) {
	c, err := net.Dial("tcp", q.addr)
	if err != nil {
		return nil, err
	}
	f := &faktoryConn{c: c, r: bufio.NewReader(c)}
	if _, err := f.r.ReadString('\n'); err != nil {
		return nil, err
	}
	hello := `HELLO {"v":2}`
	if worker {
		hello = fmt.Sprintf(`HELLO {"v":2,"wid":"w%d","hostname":"peers","pid":1,"labels":[]}`, q.seq.Add(1))
	}
	_, err = f.do(hello)
	return f, err
}

func (f *faktoryConn) do(line string) ([]byte, error) {
	if _, err := io.WriteString(f.c, line+"\r\n"); err != nil {
		return nil, err
	}
	answer, err := f.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	answer = strings.TrimRight(answer, "\r\n")
	if answer == "" {
		return nil, errors.New("an empty answer")
	}
	switch answer[0] {
	case '+':
		return []byte(answer[1:]), nil
	case '$':
		n, err := strconv.Atoi(answer[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(f.r, b)
		return b[:n], err
	}
	return nil, errors.New(answer)
}

func (q *faktory) producer(int) (func([]byte) error, error) {
	f, err := q.dial(false)
	if err != nil {
		return nil, err
	}
	return func(p []byte) error {
		_, err := f.do(fmt.Sprintf(`PUSH {"jid":"jid%016x","jobtype":"job","queue":"default","args":[%s]}`, q.seq.Add(1), p))
		return err
	}, nil
}

func (q *faktory) consume(ctx context.Context, _ int, start func([]byte), done func()) error {
	f, err := q.dial(true)
	if err != nil {
		return err
	}
	defer f.c.Close()
	for ctx.Err() == nil {
		b, err := f.do("FETCH default")
		if err != nil {
			return err
		}
		if len(b) == 0 {
			continue
		}
		var job struct {
			ID   string            `json:"jid"`
			Args []json.RawMessage `json:"args"`
		}
		if err := json.Unmarshal(b, &job); err != nil {
			return err
		}
		start(job.Args[0])
		if _, err := f.do(`ACK {"jid":"` + job.ID + `"}`); err != nil {
			return err
		}
		done()
	}
	return nil
}
