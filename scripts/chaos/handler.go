package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"windlass/scripts/chaos/check"
	"windlass/scripts/chaos/record"
)

// The handler is this program again, as a "command" runtime: it writes down
// every start by itself, so that a job that ran twice cannot hide.
const (
	handlerEnv = "CHAOS_HANDLER" // set: be the handler
	startsEnv  = "CHAOS_STARTS"  // the handlers' journal
)

// task is a job's input.
type task struct {
	N    int    `json:"n"`
	Ms   int    `json:"ms,omitempty"`   // how long to work
	Mode string `json:"mode,omitempty"` // how to misbehave
}

type message struct {
	Type  string          `json:"type"`
	ID    string          `json:"id"`
	Input json.RawMessage `json:"input"`
}

func handler(in io.Reader, out io.Writer) int {
	if os.Getenv(handlerEnv) == "exit-at-start" {
		fmt.Fprintln(os.Stderr, "the model file is missing")
		return 3
	}
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 2<<20)
	for scan.Scan() {
		var m message
		if json.Unmarshal(scan.Bytes(), &m) != nil || m.Type != "job" {
			continue
		}
		var t task
		if err := json.Unmarshal(m.Input, &t); err != nil {
			say(out, m.ID, "error", map[string]any{"code": "BAD_TASK", "message": err.Error()})
			continue
		}
		if err := journal(m, t, record.EventStart); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 4
		}
		if code := work(out, m, t); code >= 0 {
			return code
		}
	}
	return 0
}

// work does one task; a code of 0 or more ends the process with it.
func work(out io.Writer, m message, t task) int {
	id := m.ID
	time.Sleep(time.Duration(t.Ms) * time.Millisecond)
	switch t.Mode {
	case "fail-once":
		if n, err := startsOf(t.N); err == nil && n == 1 {
			_ = journal(m, t, "error")
			say(out, id, "error", map[string]any{"code": "FIRST_TRY", "message": "fails once", "retryable": true})
			return -1
		}
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		return 9
	case "garbage":
		fmt.Fprintln(out, strings.Repeat("\x00\xff{{{", 1000))
		fmt.Fprintln(out, `{"type":"nonsense"}`)
	case "half-result":
		fmt.Fprintln(out, `{"type":"result","output":{"half":`)
		return -1
	case "bad-output":
		fmt.Fprintln(out, `{"type":"result","id":"`+id+`","output":nan}`)
		return 5
	case "flood":
		line := strings.Repeat("x", 1000)
		for range 100_000 {
			fmt.Fprintln(os.Stderr, line)
		}
	case "hang":
		time.Sleep(time.Hour) // not select{}: the Go runtime would see a deadlock and exit
	}
	// Written down before it is said: nobody can have accepted it earlier.
	if err := journal(m, t, record.EventResult); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 4
	}
	say(out, id, "result", map[string]any{"output": map[string]any{"n": t.N, "sum": check.Answer(t.N)}})
	return -1
}

func say(out io.Writer, id, kind string, fields map[string]any) {
	fields["type"], fields["id"] = kind, id
	b, err := json.Marshal(fields)
	if err == nil {
		_, err = out.Write(append(b, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot answer:", err)
	}
}

// journal writes down by itself what this process does.
func journal(m message, t task, event string) error {
	sum := sha256.Sum256(m.Input)
	return record.AppendRun(os.Getenv(startsEnv), record.Run{
		Task: t.N, Job: m.ID, Agent: os.Getenv(agentEnv), Event: event, At: record.Now(), Pid: os.Getpid(),
		Input: hex.EncodeToString(sum[:]), Mode: t.Mode,
	})
}

// starts are the tasks that started, in order.
func starts(file string) ([]int, error) {
	runs, err := record.LoadRuns(file)
	var out []int
	for _, r := range runs {
		if r.Event == record.EventStart {
			out = append(out, r.Task)
		}
	}
	return out, err
}

func startsOf(n int) (int, error) {
	all, err := starts(os.Getenv(startsEnv))
	c := 0
	for _, v := range all {
		if v == n {
			c++
		}
	}
	return c, err
}
