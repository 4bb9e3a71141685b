package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// maxMetrics bounds the named metrics of one job; a name that is new beyond it
// is dropped, so that a loop over names cannot grow without end.
const maxMetrics = 100

// job is one running invocation.
type job struct {
	id    string
	dir   string // its work directory, removed at the end
	files string // where copies of the files that it hands in go; empty: none are taken
	sink  inference.Sink
	done  chan struct{} // closed with the outcome

	mu       sync.Mutex
	closed   bool // no event any more
	ended    bool // the child told the outcome: only log lines may still follow
	spoke    bool // the child sent a message for it
	paused   bool // it was asked to stop at a checkpoint
	last     time.Time
	progress protocol.Progress
	doomed   *inference.Failure // fails it when the child ends it
	outcome  outcome
	named    []namedFile // that the child handed in by message
}

// outcome is how the child said that a job ended.
type outcome struct {
	output  json.RawMessage
	file    string // the output file, relative to the job's directory
	metrics json.RawMessage
	err     error
}

// emit hands an event to the caller, unless the job ended.
func (j *job) emit(e inference.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.emitLocked(e)
}

func (j *job) emitLocked(e inference.Event) {
	if !j.closed && j.sink != nil && (!j.ended || e.Type == inference.EventLog) {
		e.Time = protocol.TimeOf(time.Now())
		j.sink(e)
	}
}

// touch notes a message of the child for this job; the first one ends warming up.
func (j *job) touch() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = time.Now()
	if !j.spoke {
		j.spoke = true
		j.emitLocked(inference.Event{Type: inference.EventState, Substate: protocol.SubstateProcessing})
	}
}

// lastSign is when the child last sent a message for this job.
func (j *job) lastSign() time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// finish sets the outcome; only the first one counts.
func (j *job) finish(o outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ended {
		return
	}
	if j.doomed != nil {
		o = outcome{err: j.doomed}
	}
	j.ended, j.outcome = true, o
	close(j.done)
}

// pause notes that the child is asked to stop at a checkpoint; false when it was
// asked before.
func (j *job) pause() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	first := !j.paused
	j.paused = true
	return first
}

func (j *job) pausing() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.paused
}

// close stops the events.
func (j *job) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
}

// doom lets the job fail when the child ends it: what it sent so far is not
// whole, but the child itself works on.
func (j *job) doom(f *inference.Failure) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.doomed == nil {
		j.doomed = f
	}
}

// note merges a progress or metric message into what is known and tells all of it.
func (j *job) note(m message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := &j.progress
	if m.kind == kindMetric {
		j.metric(m)
	} else {
		if v, ok := m.percent(); ok {
			p.Percent = &v
		}
		if s := m.text("step"); s != "" {
			p.Step = clip(s, maxStep)
		}
		if md := m.object("metadata", protocol.MaxMetadata); md != nil {
			p.Metadata = append(json.RawMessage(nil), md...)
		}
		if t := m.throughput(); t != nil {
			p.Throughput = t
		}
		p.EtaMs = m.eta() // an estimate that is not renewed is void
	}
	out := *p
	if p.Metrics != nil {
		out.Metrics = make(map[string]float64, len(p.Metrics))
		for k, v := range p.Metrics {
			out.Metrics[k] = v
		}
	}
	j.emitLocked(inference.Event{Type: inference.EventProgress, Progress: &out})
}

func (j *job) metric(m message) {
	name := m.text("name")
	v, ok := m.number("value")
	if !ok || name == "" || len(name) > protocol.MaxTagKey {
		return
	}
	if j.progress.Metrics == nil {
		j.progress.Metrics = make(map[string]float64)
	}
	if _, has := j.progress.Metrics[name]; has || len(j.progress.Metrics) < maxMetrics {
		j.progress.Metrics[name] = v
	}
}

// result is the outcome; the job is done. What the child wrote is taken out of its
// reach first.
func (j *job) result(ctx context.Context) (inference.Result, error) {
	j.mu.Lock()
	o, named := j.outcome, j.named
	j.mu.Unlock()
	if o.err != nil {
		return inference.Result{}, j.withFiles(ctx, o.err, named)
	}
	if o.file != "" {
		j.finalizing()
		if o.output, o.err = readOutput(j.dir, o.file); o.err != nil {
			return inference.Result{}, o.err
		}
	}
	files, err := j.takeFiles(ctx, named, true)
	if err != nil {
		return inference.Result{}, err
	}
	return inference.Result{Output: o.output, Metrics: o.metrics, Files: files}, nil
}

// readOutput reads an output file of the job's directory; os.Root keeps a link or
// a path with dots from reading any other file of ours.
func readOutput(dir, name string) (json.RawMessage, error) {
	if filepath.IsAbs(name) {
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return nil, outputFault(protocol.CodeOutputInvalid, "outputFile is not in the job's directory")
		}
		name = rel
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, outputFault(protocol.CodeOutputInvalid, fmt.Sprintf("cannot open the job's directory: %v", err))
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(name)
	switch {
	case err != nil || !info.Mode().IsRegular():
		return nil, outputFault(protocol.CodeOutputInvalid, "outputFile names no regular file in the job's directory")
	case info.Size() > protocol.MaxOutput:
		return nil, outputFault(protocol.CodeOutputTooLarge, fmt.Sprintf("the output has %d bytes, the limit is %d", info.Size(), protocol.MaxOutput))
	}
	b, err := root.ReadFile(name)
	switch {
	case err != nil:
		return nil, outputFault(protocol.CodeOutputInvalid, fmt.Sprintf("cannot read outputFile: %v", err))
	case len(b) > protocol.MaxOutput:
		return nil, outputFault(protocol.CodeOutputTooLarge, fmt.Sprintf("the output is larger than %d bytes", protocol.MaxOutput))
	case !validOutput(b):
		return nil, outputFault(protocol.CodeOutputInvalid, "the output file is not JSON in UTF-8, or nested too deep")
	}
	return b, nil
}

func outputFault(code protocol.Code, message string) *inference.Failure {
	return &inference.Failure{Code: code, Message: message}
}
