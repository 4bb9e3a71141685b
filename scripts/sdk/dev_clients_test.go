//go:build clients

package sdk

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"windlass/protocol/client"
)

// dev is a running `windlass dev`.
type dev struct {
	binary, addr, key string
}

// startDev builds the program and runs `windlass dev` with options until the
// test ends.
func startDev(t *testing.T, options ...string) *dev {
	t.Helper()
	d := &dev{binary: filepath.Join(t.TempDir(), "windlass")}
	run(t, ".", []string{"CGO_ENABLED=0"}, "go", "build", "-o", d.binary, "../../cmd/windlass")
	cmd := exec.Command(d.binary, append([]string{"dev", "--http", "127.0.0.1:0"}, options...)...)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("windlass dev did not end cleanly: %v\n%s", err, log.String())
		}
	})
	lines := bufio.NewScanner(out)
	for (d.addr == "" || d.key == "") && lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if v, ok := strings.CutPrefix(line, "export WINDLASS_ADDR="); ok {
			d.addr = v
		}
		if v, ok := strings.CutPrefix(line, "export WINDLASS_API_KEY="); ok {
			d.key = v
		}
	}
	if d.addr == "" || d.key == "" {
		t.Fatal("windlass dev printed no address or no key")
	}
	return d
}

// env is what a snippet finds in its environment.
func (d *dev) env(more ...string) []string {
	return append([]string{"TENSORONE_BASE_URL=" + d.addr + "/v2", "TENSORONE_API_KEY=" + d.key}, more...)
}

// cli runs the command line against it.
func (d *dev) cli(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, t.TempDir(), []string{"WINDLASS_ADDR=" + d.addr, "WINDLASS_API_KEY=" + d.key}, d.binary, args...)
}

// apply creates an endpoint.
func (d *dev) apply(t *testing.T, document string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "endpoint.yaml")
	if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	d.cli(t, "endpoint", "apply", "-f", path)
}

func (d *dev) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: []string{d.addr}, Key: d.key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
