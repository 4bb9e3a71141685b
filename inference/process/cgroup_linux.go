package process

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is a cgroup v2 directory of one tree; nil where there is none.
type cgroup struct {
	path string
	dir  *os.File
}

// newCgroup makes a group below our own one. It returns nil where the host has
// no cgroup v2 or does not let us divide ours; the tree is then held by its
// session and its mark alone.
func newCgroup(id string) *cgroup {
	parent := ownCgroup()
	if parent == "" || id == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(id))
	path := filepath.Join(parent, "windlass-"+hex.EncodeToString(sum[:8]))
	// A group that exists is what a killed supervisor left of the same id.
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil
	}
	g := &cgroup{path: path}
	dir, err := os.Open(path)
	if err != nil || !exists(filepath.Join(path, "cgroup.kill")) {
		_ = os.Remove(path)
		return nil
	}
	g.dir = dir
	return g
}

// ownCgroup is the directory of the cgroup v2 group that we are in, or "".
func ownCgroup() string {
	mount := ""
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			mount = f[1]
		}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if mount == "" || err != nil {
		return ""
	}
	for line := range strings.Lines(string(own)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, rest)
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (g *cgroup) kill() {
	if g != nil {
		_ = os.WriteFile(filepath.Join(g.path, "cgroup.kill"), []byte("1"), 0)
	}
}

func (g *cgroup) pids() []int {
	if g == nil {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(g.path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var out []int
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		if pid, err := strconv.Atoi(s.Text()); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

// removeLimit bounds how long the kernel may count a reaped process as present.
const removeLimit = time.Second

// remove drops the empty group. What cannot be dropped is found by the next
// tree with this id, and costs a directory until then.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	_ = g.dir.Close()
	deadline := time.Now().Add(removeLimit)
	for errors.Is(os.Remove(g.path), unix.EBUSY) && time.Now().Before(deadline) {
		time.Sleep(killPause)
	}
}
