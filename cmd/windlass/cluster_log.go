package main

import (
	"bytes"
	"sync"
)

const (
	// recentLines and recentBytes bound what a process keeps of its own log for
	// `cluster debug`: minutes of an ordinary day, seconds of a bad one.
	recentLines = 5000
	recentBytes = 1 << 20
)

// recentLog keeps the newest lines that were written to it.
type recentLog struct {
	mu    sync.Mutex
	lines []string // oldest first
	bytes int
}

// Write implements io.Writer; the logger writes one line at a time.
func (r *recentLog) Write(p []byte) (int, error) {
	line := string(bytes.TrimRight(p, "\n"))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines, r.bytes = append(r.lines, line), r.bytes+len(line)
	for len(r.lines) > recentLines || r.bytes > recentBytes && len(r.lines) > 1 {
		r.bytes -= len(r.lines[0])
		r.lines = r.lines[1:]
	}
	return len(p), nil
}

// Lines returns a copy, oldest first.
func (r *recentLog) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}
