package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"windlass/agent/shim"
	"windlass/protocol"
)

// dirs are the agent's directories below data (DESIGN 7).
type dirs struct {
	root, journal, runtimes, models string
}

func makeDirs(data string) (dirs, error) {
	root, err := filepath.Abs(filepath.Join(data, "agent"))
	if err != nil {
		return dirs{}, fmt.Errorf("cannot find data directory: %w", err)
	}
	d := dirs{root, filepath.Join(root, "journal"), filepath.Join(root, "runtimes"), filepath.Join(root, "models")}
	for _, p := range []string{d.root, d.journal, d.runtimes, d.models} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return d, fmt.Errorf("cannot make data directory: %w; give the agent a directory that it may write", err)
		}
	}
	return d, nil
}

// lock takes the data directory for this process; closing the file frees it. A
// shim does not inherit it, because Go opens files close-on-exec.
func (d dirs) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.root, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w; another agent uses it, so stop that or set another data directory", d.root, err), f.Close())
	}
	return f, nil
}

// identity returns the agent's id, made once and kept.
func (d dirs) identity(now time.Time) (protocol.AgentID, error) {
	path := filepath.Join(d.root, "identity")
	b, err := os.ReadFile(path)
	if err == nil {
		id, err := protocol.ParseAgentID(strings.TrimSpace(string(b)))
		if err != nil {
			return id, fmt.Errorf("cannot use %s: %w; remove it to become a new agent", path, err)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return protocol.AgentID{}, fmt.Errorf("cannot read identity: %w", err)
	}
	id := protocol.NewAgentID(now)
	if err := shim.WriteFile(path, []byte(id.String()+"\n")); err != nil {
		return id, fmt.Errorf("cannot keep identity: %w", err)
	}
	return id, nil
}
