package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOperationsPage runs the commands of docs/operations.md, as they stand
// there, against real processes. Only the loopback address is another one, so
// that the page can name ports.
func TestOperationsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	script := blocks(t, string(page))
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "windlass"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	mark := "WINDLASS_TEST_RUN=" + hex.EncodeToString(id[:])
	host := fmt.Sprintf("127.%d.%d.%d", id[0], id[1], 1+id[2]%254)
	cmd := exec.Command("bash", "-c", "set -eu\n"+strings.ReplaceAll(script, "127.0.0.1", host))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), mark, "PATH="+dir+":"+os.Getenv("PATH"), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := os.Create(filepath.Join(dir, "output")) // a pipe would be held open by what runs on
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	t.Cleanup(func() { endMarked(t, mark) })
	err = cmd.Run()
	said, _ := os.ReadFile(out.Name())
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, said, logs(dir))
	}
	for _, part := range []string{"Bootstrap", "Restart and upgrade", "Back up", "Replace a dead coordinator", "Add and remove coordinators", "Certificates", "Restore", "Lost quorum"} {
		if !bytes.Contains(said, []byte("== "+part)) {
			t.Errorf("the page has no commands under %q", part)
		}
	}
}

// blocks are the commands of the page, with their headings as output.
func blocks(t *testing.T, page string) string {
	t.Helper()
	var script strings.Builder
	heading, inside := "", false
	for line := range strings.SplitSeq(page, "\n") {
		switch {
		case strings.HasPrefix(line, "#") && !inside:
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		case line == "```sh run":
			inside = true
			fmt.Fprintf(&script, "echo '== %s'\n", heading)
		case line == "```" && inside:
			inside = false
		case inside:
			script.WriteString(line + "\n")
		}
	}
	if inside || script.Len() == 0 {
		t.Fatal("the page's blocks cannot be read")
	}
	return script.String()
}

// logs are the last lines of every process, for a failure.
func logs(dir string) string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, f := range files {
		raw, _ := os.ReadFile(f)
		const tail = 3000
		fmt.Fprintf(&all, "-- %s\n%s\n", filepath.Base(f), raw[max(0, len(raw)-tail):])
	}
	return all.String()
}

// endMarked ends every process that was started with the mark, also those that
// outlive their parents.
func endMarked(t *testing.T, mark string) {
	t.Helper()
	for range 3 { // a process may start another meanwhile
		files, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Error(err)
		}
		for _, f := range files {
			env, err := os.ReadFile(f)
			var pid int
			if _, scanErr := fmt.Sscanf(f, "/proc/%d/environ", &pid); err == nil && scanErr == nil && bytes.Contains(env, []byte(mark)) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}
