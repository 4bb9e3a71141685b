package record

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// The files of a run, one JSON line for each record.
const (
	CallsFile   = "calls.jsonl"
	RunsFile    = "runs.jsonl"
	EventsFile  = "events.jsonl"
	AppliedFile = "applied.jsonl" // in each coordinator's folder of faults
)

// event is a line of EventsFile: exactly one field is set.
type event struct {
	Fault      *Fault `json:"fault,omitempty"`
	Exit       *Exit  `json:"exit,omitempty"`
	Final      *Final `json:"final,omitempty"`
	Stall      *Stall `json:"stall,omitempty"`
	Settled    bool   `json:"settled,omitempty"`
	EndedAt    int64  `json:"endedAt,omitempty"`
	Lenient    []int  `json:"lenient,omitempty"`
	QueueLimit int    `json:"queueLimit,omitempty"`
}

// Log writes the history of one run. It is safe for concurrent use.
type Log struct {
	dir string

	mu     sync.Mutex
	calls  *bufio.Writer
	events *bufio.Writer
	files  []*os.File
	err    error
}

// Create opens the files of a run in dir.
func Create(dir string) (*Log, error) {
	l := &Log{dir: dir}
	for _, f := range []struct {
		name string
		to   **bufio.Writer
	}{{CallsFile, &l.calls}, {EventsFile, &l.events}} {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("cannot open history: %w", err)
		}
		l.files = append(l.files, file)
		*f.to = bufio.NewWriter(file)
	}
	return l, nil
}

func (l *Log) write(w *bufio.Writer, v any) {
	line, err := json.Marshal(v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	l.err = errors.Join(l.err, err)
}

// Call writes one call.
func (l *Log) Call(c Call) { l.write(l.calls, c) }

// Fault writes one fault, when it is over.
func (l *Log) Fault(f Fault) { l.write(l.events, event{Fault: &f}) }

// Exit writes that a coordinator ended.
func (l *Log) Exit(e Exit) { l.write(l.events, event{Exit: &e}) }

// Final writes what a coordinator holds at the end.
func (l *Log) Final(f Final) { l.write(l.events, event{Final: &f}) }

// Stall writes a time without a processor.
func (l *Log) Stall(s Stall) { l.write(l.events, event{Stall: &s}) }

// Settled writes that every job had its time to end.
func (l *Log) Settled() { l.write(l.events, event{Settled: true}) }

// Ending writes that everything is stopped from now on.
func (l *Log) Ending() { l.write(l.events, event{EndedAt: Now()}) }

// Lenient writes that a task may end otherwise than completed.
func (l *Log) Lenient(task int) { l.write(l.events, event{Lenient: []int{task}}) }

// QueueLimit writes the limit of the queue that this run has.
func (l *Log) QueueLimit(n int) { l.write(l.events, event{QueueLimit: n}) }

// Flush makes what was written so far readable by Load.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.err, l.calls.Flush(), l.events.Flush())
}

// Close writes out and closes the files.
func (l *Log) Close() error {
	err := l.Flush()
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// AppendRun adds one line to a handlers' journal; O_APPEND keeps the lines of
// several processes whole.
func AppendRun(file string, r Run) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot record a run: %w", err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot record a run: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// LoadRuns reads a handlers' journal; one that nobody wrote is empty.
func LoadRuns(file string) ([]Run, error) {
	var runs []Run
	err := lines(file, func(line []byte) error {
		var r Run
		err := json.Unmarshal(line, &r)
		runs = append(runs, r)
		return err
	})
	return runs, err
}

// Load reads the history of a run from its folder: the calls, the runs, the
// events, and what each coordinator applied (*/AppliedFile).
func Load(dir string) (*History, error) {
	h := &History{Lenient: make(map[int]bool)}
	err := lines(filepath.Join(dir, CallsFile), func(line []byte) error {
		var c Call
		err := json.Unmarshal(line, &c)
		h.Calls = append(h.Calls, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	if h.Runs, err = LoadRuns(filepath.Join(dir, RunsFile)); err != nil {
		return nil, err
	}
	if err := lines(filepath.Join(dir, EventsFile), h.event); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", AppliedFile))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		node := strings.TrimSuffix(filepath.Base(filepath.Dir(file)), "-chaos")
		applied, err := LoadApplied(file)
		if err != nil {
			return nil, err
		}
		for i := range applied {
			applied[i].Node = node
		}
		h.Applied = append(h.Applied, applied...)
	}
	return h, nil
}

func (h *History) event(line []byte) error {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	switch {
	case e.Fault != nil:
		h.Faults = append(h.Faults, *e.Fault)
	case e.Exit != nil:
		h.Exits = append(h.Exits, *e.Exit)
	case e.Final != nil:
		h.Finals = append(h.Finals, *e.Final)
	case e.Stall != nil:
		h.Stalls = append(h.Stalls, *e.Stall)
	case e.Settled:
		h.Settled = true
	case e.EndedAt > 0 && h.EndedAt == 0: // a scenario may begin before its bed does
		h.EndedAt = e.EndedAt
	case e.QueueLimit > 0:
		h.QueueLimit = e.QueueLimit
	}
	for _, task := range e.Lenient {
		h.Lenient[task] = true
	}
	return nil
}

// LoadApplied reads what one coordinator applied, in the order in which it did.
// It was killed at any moment, so a line may be cut, and the next life goes on
// behind it: lines that are no record are passed over, because what is missing
// here is in the others' files.
func LoadApplied(file string) ([]Applied, error) {
	var out []Applied
	err := lines(file, func(line []byte) error {
		var a Applied
		if json.Unmarshal(line, &a) == nil {
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

func lines(file string, each func([]byte) error) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read history: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			if err := each(line); err != nil {
				return fmt.Errorf("cannot read history %s, line %d: %w", file, n, err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read history: %w", err)
		}
	}
}
