package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// queue is a peer: how it is started, and how its clients and workers are made.
type queue interface {
	// ready says why it cannot run here, after trying to install it.
	ready(ctx context.Context) error
	// start runs an empty server below dir and returns how to end it.
	start(ctx context.Context, dir string) (stop func(), err error)
	// open connects a load of c clients and c workers.
	open(ctx context.Context, c int) (session, error)
}

// session is one load on a running server.
type session interface {
	// producer returns a function that submits a payload and returns once it is
	// acknowledged as durable.
	producer(i int) (func(payload []byte) error, error)
	// consume runs worker i until ctx ends: one job after the other, start with
	// its payload, done once its completion is acknowledged.
	consume(ctx context.Context, i int, start func(payload []byte), done func()) error
	close()
}

// drainLimit bounds the wait for the jobs that are left when the clients stop.
const drainLimit = 60 * time.Second

// latencyWorkers wait idle, so that a job meets a waiting worker.
const latencyWorkers = 16

// peer measures a queue.
func peer(s settings, name string, required bool, q queue) *system {
	return &system{
		name: name, required: required, ready: q.ready,
		cycle: func(ctx context.Context, dir string, c int) (rate float64, err error) {
			err = serve(ctx, dir, q, c, func(l *load) error {
				rate, err = l.cycle(ctx, c, s.time)
				return err
			})
			return rate, err
		},
		latency: func(ctx context.Context, dir string) (p50, p99 time.Duration, err error) {
			err = serve(ctx, dir, q, latencyWorkers, func(l *load) error {
				p50, p99, err = l.latency(ctx, s.rate, s.time)
				return err
			})
			return p50, p99, err
		},
	}
}

// serve runs fn against an empty server with c workers.
func serve(ctx context.Context, parent string, q queue, c int, fn func(*load) error) error {
	return withDir(parent, func(dir string) error {
		stop, err := q.start(ctx, dir)
		if err != nil {
			return err
		}
		defer stop()
		sess, err := q.open(ctx, c)
		if err != nil {
			return err
		}
		defer sess.close()
		l := &load{session: sess}
		end := l.work(ctx, c)
		err = fn(l)
		return errors.Join(err, end())
	})
}

// load is the clients and workers of one measurement.
type load struct {
	session session
	done    atomic.Int64

	mu    sync.Mutex
	late  []int64 // ns from submit to worker
	fault error
}

func (l *load) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == nil {
		l.fault = err
	}
}

// work starts the workers; the function it returns ends them and tells what failed.
func (l *load) work(ctx context.Context, c int) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range c {
		wg.Go(func() {
			if err := l.session.consume(ctx, i, l.start, func() { l.done.Add(1) }); err != nil && ctx.Err() == nil {
				l.failed(err)
			}
		})
	}
	return func() error {
		cancel()
		wg.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.fault
	}
}

func (l *load) start(payload []byte) {
	now := time.Now().UnixNano()
	if at := sentAt(payload); at > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.late = append(l.late, now-at)
	}
}

// cycle returns the jobs completed per second while c clients submit.
func (l *load) cycle(ctx context.Context, c int, d time.Duration) (float64, error) {
	var sent atomic.Int64
	var wg sync.WaitGroup
	submits := make([]func([]byte) error, c)
	for i := range c {
		var err error
		if submits[i], err = l.session.producer(i); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	for i := range c {
		wg.Go(func() {
			body := newPayload()
			for time.Since(start) < d && ctx.Err() == nil {
				stamp(body)
				if err := submits[i](body); err != nil {
					l.failed(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	rate := float64(l.done.Load()) / time.Since(start).Seconds()
	return rate, l.drain(ctx, sent.Load())
}

// latency offers rate jobs a second whatever the answers take.
func (l *load) latency(ctx context.Context, rate int, d time.Duration) (p50, p99 time.Duration, err error) {
	const clients = 32 // enough that the offer never waits for one
	ticks := make(chan struct{}, rate)
	var wg sync.WaitGroup
	for i := range clients {
		submit, err := l.session.producer(i)
		if err != nil {
			close(ticks)
			return 0, 0, err
		}
		wg.Go(func() {
			body := newPayload()
			for range ticks {
				stamp(body)
				if err := submit(body); err != nil {
					l.failed(err)
				}
			}
		})
	}
	n, next := int64(float64(rate)*d.Seconds()), time.Now()
	for range n {
		next = next.Add(time.Second / time.Duration(rate))
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
		ticks <- struct{}{}
	}
	close(ticks)
	wg.Wait()
	if err := l.drain(ctx, n); err != nil {
		return 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.late) == 0 {
		return 0, 0, errors.New("no payload carried its send time")
	}
	v := slices.Sorted(slices.Values(l.late))
	return time.Duration(v[len(v)/2]), time.Duration(v[len(v)*99/100]), nil
}

func (l *load) drain(ctx context.Context, n int64) error {
	for end := time.Now().Add(drainLimit); l.done.Load() < n; time.Sleep(10 * time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.mu.Lock()
		err := l.fault
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("only %d of %d jobs were done after %s", l.done.Load(), n, drainLimit)
		}
	}
	return nil
}

// inputSize is the size of every payload; the first field is the send time.
const (
	inputSize   = 1024
	inputHead   = `{"ts":`
	stampDigits = 19
)

func newPayload() []byte {
	b := []byte(inputHead + strings.Repeat("0", stampDigits) + `,"p":"`)
	b = append(b, strings.Repeat("x", inputSize-len(b)-2)...)
	return append(b, `"}`...)
}

func stamp(b []byte) {
	copy(b[len(inputHead):len(inputHead)+stampDigits], strconv.AppendInt(nil, time.Now().UnixNano(), 10))
}

func sentAt(b []byte) int64 {
	i := bytes.Index(b, []byte(`"ts":`)) // PostgreSQL moves it behind the filler
	if i < 0 {
		return 0
	}
	text := strings.TrimLeft(string(b[i+len(`"ts":`):min(len(b), i+64)]), " ")
	if len(text) < stampDigits {
		return 0
	}
	n, err := strconv.ParseInt(text[:stampDigits], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// process runs a server until the function that it returns is called.
func process(ctx context.Context, dir string, env []string, name string, args ...string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its data is thrown away
		_ = cmd.Wait()
	}, nil
}

// startLimit bounds the start of a server.
const startLimit = 60 * time.Second

// listening waits until something accepts on addr.
func listening(ctx context.Context, addr string) error {
	for end := time.Now().Add(startLimit); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("nothing listens on %s after %s", addr, startLimit)
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("cannot find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// apt installs a Debian package unless the program is there.
func apt(ctx context.Context, program, pkg string) error {
	if _, err := exec.LookPath(program); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "apt-get", "install", "-y", "-q", "--no-install-recommends", pkg)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot install %s: %w: %s", pkg, err, tail(string(out)))
	}
	_, err := exec.LookPath(program)
	return err
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
