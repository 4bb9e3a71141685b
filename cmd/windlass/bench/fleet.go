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
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// fleet is a process of its own that holds the workers.
type fleet struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// tally is what a fleet answers when it is asked.
type tally struct {
	Done     int64 `json:"done"`
	Parked   int64 `json:"parked"`
	StartP50 int64 `json:"startP50"` // ns from submit to agent
	StartP99 int64 `json:"startP99"`
	CPU      int64 `json:"cpu"` // ns
}

// unlimited is an allowance that no measurement uses up.
const unlimited = 1 << 40

// startFleet runs agents with slots each against a server and waits until all
// are parked. Together they take about as many jobs as allowed.
func startFleet(ctx context.Context, addr string, agents, slots int, allowed int64) (*fleet, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f := &fleet{cmd: exec.CommandContext(ctx, exe, "bench", "fleet", addr, strconv.Itoa(agents), strconv.Itoa(slots))}
	f.cmd.Stderr = os.Stderr
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	f.out = bufio.NewScanner(out)
	if err := f.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the fleet: %w", err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		t, err := f.ask(false)
		if err != nil {
			f.stop()
			return nil, err
		}
		if t.Parked >= int64(agents) {
			return f, f.allow(allowed)
		}
		if time.Now().After(end) {
			f.stop()
			return nil, fmt.Errorf("only %d of %d agents were parked after a minute", t.Parked, agents)
		}
	}
}

// ask counts; with latencies it also sorts them, which takes a moment.
func (f *fleet) ask(latencies bool) (tally, error) {
	var t tally
	line := "count\n"
	if latencies {
		line = "latencies\n"
	}
	if _, err := io.WriteString(f.in, line); err != nil {
		return t, fmt.Errorf("cannot ask the fleet: %w", errors.Join(err, f.cmd.Wait()))
	}
	if !f.out.Scan() {
		return t, fmt.Errorf("cannot ask the fleet: it ended: %w", errors.Join(f.out.Err(), f.cmd.Wait()))
	}
	return t, json.Unmarshal(f.out.Bytes(), &t)
}

// allow lets the fleet take n more jobs.
func (f *fleet) allow(n int64) error {
	if _, err := fmt.Fprintf(f.in, "allow %d\n", n); err != nil {
		return fmt.Errorf("cannot tell the fleet: %w", err)
	}
	return nil
}

// waitDone polls until n jobs are done or the limit passes.
func (f *fleet) waitDone(n int64, limit time.Duration) (tally, error) {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		t, err := f.ask(false)
		if err != nil || t.Done >= n {
			return t, err
		}
		if time.Now().After(end) {
			return t, fmt.Errorf("only %d of %d jobs were done after %s", t.Done, n, limit)
		}
	}
}

func (f *fleet) stop() {
	_ = f.in.Close()
	_ = f.cmd.Wait()
}

func fleetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "fleet ADDR AGENTS SLOTS", Hidden: true, Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			agents, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			slots, err := strconv.Atoi(args[2])
			if err != nil {
				return err
			}
			return serveFleet(cmd.Context(), args[0], agents, slots, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// idleHold keeps the polls of idle agents parked for the whole measurement.
const idleHold = 36 * time.Second

func serveFleet(ctx context.Context, addr string, agents, slots int, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &workers{addr: addr, key: benchKey, slots: slots, hold: idleHold}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	failed := make(chan error, agents)
	wg.Go(func() {
		for i := range agents {
			wk, err := w.start("bench-" + strconv.Itoa(i))
			if err != nil {
				failed <- err
				return
			}
			wg.Go(func() {
				if err := wk.run(ctx); err != nil {
					failed <- err
				}
			})
		}
	})
	answer := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		select {
		case err := <-failed:
			return err
		default:
		}
		if text, ok := strings.CutPrefix(lines.Text(), "allow "); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return err
			}
			w.allow(n)
			continue
		}
		cpu, err := spent()
		if err != nil {
			return err
		}
		t := tally{Done: w.done.Load(), Parked: w.parked.Load(), CPU: int64(cpu)}
		if lines.Text() == "latencies" {
			t.StartP50, t.StartP99 = int64(w.starts.quantile(0.5)), int64(w.starts.quantile(0.99))
		}
		if err := answer.Encode(t); err != nil {
			return err
		}
	}
	return nil
}
