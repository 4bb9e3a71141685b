package gpu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// Rules of the probe (agent.md 1.2).
const (
	// requestLimit is how long the driver may take for one answer.
	requestLimit = 2 * time.Second
	// maxAbandoned bounds the probes that hang in the driver: one that cannot
	// die holds a process for ever, and a third would hang as well.
	maxAbandoned = 2
	// maxAnswer bounds one line of a probe.
	maxAnswer = 1 << 20
)

// ErrUnavailable means that this host or this build has no NVML; the text after
// it says why.
var ErrUnavailable = errors.New("no GPU driver")

// ErrHung means that the driver does not answer and is not asked any more.
var ErrHung = errors.New("the GPU driver does not answer; reload it or restart the host")

// request and response are the lines between client and probe.
type request struct {
	Ask string `json:"ask"` // devices, samples
}

type response struct {
	Devices     []Device `json:"devices,omitempty"`
	Samples     []Sample `json:"samples,omitempty"`
	Error       string   `json:"error,omitempty"`
	Unavailable bool     `json:"unavailable,omitempty"`
}

// Probe is a Source that asks a child process.
type Probe struct {
	command []string

	mu        sync.Mutex // held for a whole request: one is in flight
	child     *child
	abandoned int
}

type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *os.File
	r   *bufio.Reader
}

// NewProbe returns a source whose child is started by command with the first
// request, and again after it ended.
func NewProbe(command []string) *Probe { return &Probe{command: command} }

// Devices implements Source.
func (p *Probe) Devices(ctx context.Context) ([]Device, error) {
	r, err := p.ask(ctx, "devices")
	return r.Devices, err
}

// Samples implements Source.
func (p *Probe) Samples(ctx context.Context) ([]Sample, error) {
	r, err := p.ask(ctx, "samples")
	return r.Samples, err
}

// Close implements Source. A probe that hangs in the driver cannot be waited
// for; it is left to the kernel.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(false)
	return nil
}

func (p *Probe) ask(ctx context.Context, what string) (response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.abandoned >= maxAbandoned {
		return response{}, ErrHung
	}
	if p.child == nil {
		if err := p.start(); err != nil {
			return response{}, err
		}
	}
	r, err := p.child.exchange(ctx, what)
	if err != nil {
		p.end(errors.Is(err, os.ErrDeadlineExceeded))
		return r, fmt.Errorf("cannot ask GPU probe: %w", err)
	}
	if r.Error != "" {
		p.end(false)
		if r.Unavailable {
			return r, fmt.Errorf("%w: %s", ErrUnavailable, r.Error)
		}
		return r, fmt.Errorf("cannot ask GPU driver: %s", r.Error)
	}
	return r, nil
}

func (p *Probe) start() error {
	if len(p.command) == 0 {
		return fmt.Errorf("%w: no probe command", ErrUnavailable)
	}
	cmd := exec.Command(p.command[0], p.command[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("cannot start GPU probe: %w", err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot start GPU probe: %w", err)
	}
	cmd.Stdout = w
	err = errors.Join(cmd.Start(), w.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("cannot start GPU probe: %w", err), out.Close())
	}
	p.child = &child{cmd: cmd, in: in, out: out, r: bufio.NewReaderSize(out, maxAnswer)}
	return nil
}

func (c *child) exchange(ctx context.Context, what string) (response, error) {
	deadline := time.Now().Add(requestLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	var resp response
	if err := c.out.SetReadDeadline(deadline); err != nil {
		return resp, err
	}
	if err := json.NewEncoder(c.in).Encode(request{Ask: what}); err != nil {
		return resp, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return resp, err
	}
	return resp, json.Unmarshal(line, &resp)
}

// end kills the child. One that hangs is abandoned: it may be in a state in
// which not even SIGKILL ends it.
func (p *Probe) end(hung bool) {
	c := p.child
	if c == nil {
		return
	}
	p.child = nil
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.out.Close()
	if hung {
		p.abandoned++
		return
	}
	_ = c.cmd.Wait() // killed; its status says nothing
}
