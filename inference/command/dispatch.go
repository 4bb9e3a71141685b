package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"windlass/inference"
	"windlass/inference/process"
	"windlass/protocol"
)

// The sources of log lines.
const (
	sourceStdout  = "stdout"
	sourceStderr  = "stderr"
	sourceHandler = "handler"
)

func (in *Instance) readStdout(r io.Reader) {
	process.Lines(r, MaxLine, func(b []byte, cut bool) {
		in.alive()
		in.mu.Lock()
		only := in.channel
		in.mu.Unlock()
		if m, ok := parse(b, cut); ok && !only {
			in.dispatch(m)
			return
		}
		in.log.Write(sourceStdout, string(b))
	})
}

func (in *Instance) readStderr(r io.Reader) {
	process.Lines(r, protocol.MaxLogLine, func(b []byte, _ bool) {
		in.alive()
		in.log.Write(sourceStderr, string(b))
	})
}

// readChannel reads the extra descriptor. The first message there makes standard
// output plain log, so that nothing a library prints can be taken for a message.
func (in *Instance) readChannel(r io.Reader) {
	process.Lines(r, MaxLine, func(b []byte, cut bool) {
		in.alive()
		m, ok := parse(b, cut)
		if !ok {
			in.log.Write(sourceHandler, string(b))
			return
		}
		in.mu.Lock()
		in.channel = true
		in.mu.Unlock()
		in.dispatch(m)
	})
}

// logged routes a log line: to the job if there is only one, else to whoever
// started the instance.
func (in *Instance) logged(source, line string) {
	e := inference.Event{Type: inference.EventLog, Source: source, Line: line}
	if j := in.sole(); j != nil {
		j.emit(e)
		return
	}
	in.tell(e)
}

// tell hands an event to the sink of the start.
func (in *Instance) tell(e inference.Event) {
	e.Time = protocol.TimeOf(time.Now())
	in.sink(e)
}

// sole is the running job of an instance with one slot.
func (in *Instance) sole() *job {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.slots != 1 {
		return nil
	}
	for _, j := range in.jobs {
		return j
	}
	return nil
}

func (in *Instance) dispatch(m message) {
	switch m.kind {
	case kindHello:
		in.hello(m)
	case kindPhase:
		in.phase(m)
	case kindReady:
		in.setReady()
	case kindLog:
		in.handlerLog(m)
	default:
		in.jobMessage(m)
	}
}

// find is the job that m is for.
func (in *Instance) find(m message) *job {
	if m.id == "" {
		return in.sole()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.jobs[m.id]
}

func (in *Instance) handlerLog(m message) {
	line := m.text("message")
	if line == "" {
		line = m.text("line")
	}
	if j := in.find(m); j != nil && in.slots > 1 {
		j.touch()
		j.emit(inference.Event{Type: inference.EventLog, Source: sourceHandler, Line: clip(line, protocol.MaxLogLine)})
		return
	}
	in.log.Write(sourceHandler, line)
}

// jobMessage hands a message to its job.
func (in *Instance) jobMessage(m message) {
	j := in.find(m)
	if j == nil {
		in.note("a %s message for no running job was ignored", m.kind)
		return
	}
	in.setSpoken()
	j.touch()
	if m.fault != faultNone {
		in.faulty(j, m)
		return
	}
	switch m.kind {
	case kindProgress, kindMetric:
		j.note(m)
	case kindChunk:
		j.emit(inference.Event{Type: inference.EventChunk, Chunk: m.value("data")})
	case kindFile:
		j.handIn(m.text("path"), m.text("name"))
	case kindResult:
		j.finish(outcome{output: m.value("output"), file: m.text("outputFile"), metrics: bytes.Clone(m.object("metrics", protocol.MaxMetadata))})
	case kindError:
		j.finish(outcome{err: m.failure()})
	case kindCheckpoint:
		if !j.pausing() {
			in.note("a checkpoint that nobody asked for was ignored")
			return
		}
		j.finish(outcome{err: &inference.Paused{Checkpoint: m.value("data")}})
	}
}

// faulty handles a message of j that cannot be read. What only informs is
// dropped; a lost chunk fails the job when the child ends it; a result or an
// error ends it now. The process lives on in every case.
func (in *Instance) faulty(j *job, m message) {
	f := &inference.Failure{Code: protocol.CodeRuntimeProtocol}
	switch m.fault {
	case faultLong:
		f.Message = fmt.Sprintf("a %s message is longer than %d bytes; write a large output to a file in the job's workdir and name it as outputFile", m.kind, MaxLine)
		if m.kind == kindCheckpoint {
			f.Message = fmt.Sprintf("a checkpoint is longer than %d bytes; store what is large elsewhere and keep its name", MaxLine)
		}
	case faultDeep:
		f.Message = fmt.Sprintf("a %s message is nested deeper than %d", m.kind, protocol.MaxDepth)
	default:
		f.Message = fmt.Sprintf("a %s message is not JSON in UTF-8", m.kind)
	}
	if m.kind == kindResult && m.fault != faultLong {
		f.Code = protocol.CodeOutputInvalid
	}
	switch m.kind {
	case kindResult, kindError, kindCheckpoint:
		j.finish(outcome{err: f})
	case kindChunk:
		j.doom(f)
	default:
		in.note("%s; it was ignored", f.Message)
	}
}

// note writes a line of our own into the log.
func (in *Instance) note(format string, args ...any) {
	in.log.Write(process.SourceAgent, fmt.Sprintf(format, args...))
}

// validOutput reports whether b may become a job's output.
func validOutput(b []byte) bool {
	return utf8.Valid(b) && json.Valid(b) && depth(b) <= protocol.MaxDepth
}
