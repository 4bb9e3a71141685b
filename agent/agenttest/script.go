package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"windlass/protocol"
)

// script is a handler in POSIX sh for the runtime kind "command". What it does
// with a job is a word in the input: gate waits until the test opens the gate,
// crash kills the runtime, flood logs without end, orphan leaves a process in
// another session, big streams and returns more than travels inline, files hands
// two files in.
const script = `
echo '{"type":"ready"}'
while read -r line; do
  case "$line" in *'"type":"job"'*) ;; *) continue ;; esac
  echo run >> "$DIR/runs"
  echo '{"type":"progress","percent":50,"step":"half"}'
  echo '{"type":"chunk","data":"one","chunk":"one"}'
  case "$line" in
    *orphan*) setsid sh -c 'echo $$ > "$DIR/orphan"; exec sleep 1000' </dev/null >/dev/null 2>&1 & ;;
  esac
  case "$line" in
    *gate*) echo waiting >&2; read -r x < "$DIR/gate" ;;
    *crash*) echo last words >&2; kill -9 $$ ;;
  esac
  case "$line" in
    *files*)
      out=$(echo "$line" | sed 's/.*"outputDir":"\([^"]*\)".*/\1/')
      echo one > "$out/a.txt"; echo two > "$out/b.txt" ;;
  esac
  case "$line" in
    *big*) printf '{"type":"result","output":{"big":"%0100000d"}}\n' 7 ;;
    *) echo '{"type":"result","output":{"ok":true}}' ;;
  esac
done
`

// Script is one handler program with its gate and its record of runs.
type Script struct {
	Dir string
	t   testing.TB
}

// NewScript writes the handler into a directory of its own.
func NewScript(t testing.TB) *Script {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "handler.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "gate"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Script{Dir: dir, t: t}
}

// Runtime is the specification of the handler.
func (s *Script) Runtime() protocol.RuntimeSpec {
	return protocol.RuntimeSpec{
		Kind: "command", Command: []string{"/bin/sh", filepath.Join(s.Dir, "handler.sh")},
		Env: map[string]protocol.EnvValue{"DIR": {Literal: s.Dir}},
	}
}

// Endpoint is a document that runs the handler.
func (s *Script) Endpoint(id string) protocol.Endpoint {
	return protocol.Endpoint{Kind: protocol.EndpointKind, ID: id, Revision: 1, Runtime: s.Runtime(), Resources: protocol.ResourceSpec{CPU: true}}
}

// Open lets one job through the gate; it waits until a job is there.
func (s *Script) Open() {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.Dir, "gate"), os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintln(f, "go")
		_ = f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// Runs is how often the handler began a job.
func (s *Script) Runs() int {
	b, err := os.ReadFile(filepath.Join(s.Dir, "runs"))
	if err != nil {
		return 0
	}
	return strings.Count(string(b), "run\n")
}
