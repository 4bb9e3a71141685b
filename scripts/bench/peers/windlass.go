package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// slots is how many jobs one agent runs at a time: a host with eight GPUs.
const slots = 8

// windlass measures our own program with its own bench, whose processes are
// coordinators, clients and agents.
func windlass(s settings, nodes int) *system {
	bench := func(ctx context.Context, dir, mode string, args ...string) (string, error) {
		args = append([]string{"bench", mode, "--nodes", strconv.Itoa(nodes), "--time", s.time.String(), "--dir", dir}, args...)
		if s.spread {
			args = append(args, "--spread")
		}
		cmd := exec.CommandContext(ctx, s.binary, args...)
		var failure bytes.Buffer
		cmd.Stderr = &failure
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%w: %s", err, tail(failure.String()))
		}
		return string(out), nil
	}
	return &system{
		name: fmt.Sprintf("windlass-r%d", nodes), required: true,
		ready: func(context.Context) error {
			_, err := os.Stat(s.binary)
			return err
		},
		cycle: func(ctx context.Context, dir string, c int) (float64, error) {
			out, err := bench(ctx, dir, "cycle", "--clients", strconv.Itoa(c), "--agents", strconv.Itoa(max(c/slots, 1)), "--slots", strconv.Itoa(min(slots, c)))
			if err != nil {
				return 0, err
			}
			return figure(out, `jobs done while submitting\s+([0-9.]+)/s`)
		},
		latency: func(ctx context.Context, dir string) (p50, p99 time.Duration, err error) {
			out, err := bench(ctx, dir, "latency", "--rate", strconv.Itoa(s.rate))
			if err != nil {
				return 0, 0, err
			}
			a, err := figure(out, `submit-to-agent p50 / p99\s+([0-9.]+) ms`)
			if err != nil {
				return 0, 0, err
			}
			b, err := figure(out, `submit-to-agent p50 / p99\s+[0-9.]+ ms / ([0-9.]+) ms`)
			return time.Duration(a * float64(time.Millisecond)), time.Duration(b * float64(time.Millisecond)), err
		},
	}
}

func figure(text, pattern string) (float64, error) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("cannot find %s in the output", pattern)
	}
	return strconv.ParseFloat(m[1], 64)
}
