package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"windlass/agent/host"
	"windlass/inference"
	"windlass/protocol"
)

// Version of the protocol between a shim and its agent. A newer agent must be
// able to re-adopt the shims of the one before it.
const Version = 1

// EnvMark is in the environment of a shim and of all that it starts. Its value
// is Spec.Mark; it finds processes that left their group, session and parent.
const EnvMark = "WINDLASS_RUNTIME"

// Names inside a runtime directory.
const (
	specFile  = "spec.json"
	stateFile = "state.json"
	sockFile  = "sock"
	logFile   = "shim.log"
	workDir   = "work"
)

// Spec is what a shim runs; its file holds resolved secrets, hence mode 0600.
type Spec struct {
	Version  int            `json:"version"`
	Mark     string         `json:"mark"`
	Instance inference.Spec `json:"instance"`
	Journal  string         `json:"journal"`  // directory of the result journal
	OrphanMs int64          `json:"orphanMs"` // how long the shim goes on without an agent
}

// State is who runs in a runtime directory.
type State struct {
	Version int           `json:"version"`
	Shim    host.Identity `json:"shim"`
	Runtime int           `json:"runtime,omitempty"` // pid of the runtime, once it is ready
}

// ReadSpec reads the specification of a runtime directory.
func ReadSpec(dir string) (Spec, error) {
	var s Spec
	if err := readJSON(filepath.Join(dir, specFile), &s); err != nil {
		return s, fmt.Errorf("cannot read runtime specification: %w", err)
	}
	if s.Version != Version {
		return s, fmt.Errorf("cannot use runtime directory %s: its version is %d, this program speaks %d", dir, s.Version, Version)
	}
	return s, nil
}

// ReadState reads who runs in a runtime directory.
func ReadState(dir string) (State, error) {
	var s State
	if err := readJSON(filepath.Join(dir, stateFile), &s); err != nil {
		return s, fmt.Errorf("cannot read runtime state: %w", err)
	}
	return s, nil
}

func (s Spec) orphanLimit() time.Duration { return time.Duration(s.OrphanMs) * time.Millisecond }

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func writeJSON(path string, v any) error {
	b, err := protocol.EncodeJSON(v)
	if err != nil {
		return err
	}
	return WriteFile(path, b)
}

// WriteFile replaces a file so that a crash at any moment leaves the old or the
// new content: temporary file, fsync, rename, fsync of the directory.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// tempPrefix marks files that were never completed.
const tempPrefix = ".tmp-"

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
