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
)

// The handler is this program again, as a "command" runtime: it writes down
// every start by itself, so that a job that ran twice cannot hide.
const (
	handlerEnv = "CHAOS_HANDLER" // set: be the handler
	startsEnv  = "CHAOS_STARTS"  // the file of starts
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

// answer is what a well-behaved run of task n returns.
func answer(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "windlass %d", n))
	return hex.EncodeToString(sum[:])
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
		if err := started(t.N); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 4
		}
		if code := work(out, m.ID, t); code >= 0 {
			return code
		}
	}
	return 0
}

// work does one task; a code of 0 or more ends the process with it.
func work(out io.Writer, id string, t task) int {
	time.Sleep(time.Duration(t.Ms) * time.Millisecond)
	switch t.Mode {
	case "fail-once":
		if n, err := count(t.N); err == nil && n == 1 {
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
	say(out, id, "result", map[string]any{"output": map[string]any{"n": t.N, "sum": answer(t.N)}})
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

// started appends one line; O_APPEND keeps lines of several processes whole.
func started(n int) error {
	f, err := os.OpenFile(os.Getenv(startsEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot record a start: %w", err)
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d\n", n)
	return err
}

// starts reads the record in order.
func starts(file string) ([]int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, nil
		}
		return nil, err
	}
	var out []int
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		var n int
		if _, err := fmt.Sscan(line, &n); err != nil {
			return nil, fmt.Errorf("cannot read the record of starts: %w", err)
		}
		out = append(out, n)
	}
	return out, nil
}

func count(n int) (int, error) {
	all, err := starts(os.Getenv(startsEnv))
	c := 0
	for _, v := range all {
		if v == n {
			c++
		}
	}
	return c, err
}
