package main

import (
	"fmt"
	"strings"
	"time"

	"windlass/protocol"
)

// progress is one line on stderr that is written over. It exists only on a
// terminal, and not where a stream is printed to the same one.
type progress struct {
	a     *app
	on    bool
	shown bool
}

func (a *app) newProgress(streaming bool) *progress {
	return &progress{a: a, on: a.errTerminal && !(streaming && a.outTerminal)}
}

// clearLine returns to the first column and erases what is there.
const clearLine = "\r\x1b[K"

func (p *progress) show(s protocol.JobStatus) {
	if !p.on {
		return
	}
	p.a.sayf("%s%s", clearLine, progressText(s, time.Now()))
	p.shown = true
}

func (p *progress) clear() {
	if p.shown {
		p.a.sayf(clearLine)
		p.shown = false
	}
}

// maxLine keeps the line within a narrow terminal: a wrapped line cannot be
// written over.
const maxLine = 79

// progressText is percent, step, rate and ETA, as far as they are known.
func progressText(s protocol.JobStatus, now time.Time) string {
	parts := []string{s.Status.String()}
	if s.Substate == protocol.SubstateWarmingUp {
		parts[0] = "warming up"
	}
	if s.Progress != nil {
		parts = append(parts, fmt.Sprintf("%s %3.0f%%", bar(*s.Progress), *s.Progress))
	}
	if s.CurrentStep != "" {
		parts = append(parts, printable(s.CurrentStep))
	}
	if s.Throughput != nil {
		parts = append(parts, rate(s.Throughput))
	}
	if !s.EstimatedCompletion.IsZero() && !s.Status.Terminal() {
		parts = append(parts, "ETA "+remaining(s.EstimatedCompletion.Std().Sub(now)))
	}
	line := []rune(strings.Join(parts, "  "))
	return string(line[:min(len(line), maxLine)])
}

const barCells = 20

func bar(percent float64) string {
	full := int(min(max(percent, 0), 100) / 100 * barCells)
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barCells-full) + "]"
}
