package consensus

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Identity is who this node is in its cluster. It is made with the data
// directory and dies with it: an emptied directory is a new node that must
// join, because it no longer has what the old one promised (DESIGN 3.9).
type Identity struct {
	ServerID  string `json:"serverId"`
	ClusterID string `json:"clusterId,omitempty"` // empty until the node is in a cluster
}

const identityFile = "identity.json"

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// loadIdentity reads the identity of the directory, or makes it.
func loadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, identityFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := Identity{ServerID: newID("srv_")}
		return id, saveIdentity(dir, id)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("cannot read identity: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(raw, &id); err != nil || id.ServerID == "" {
		return Identity{}, &DamageError{Dir: dir, Err: errors.New(identityFile + " is damaged")}
	}
	return id, nil
}

// saveIdentity replaces the file whole: fsynced, renamed, directory fsynced.
func saveIdentity(dir string, id Identity) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("cannot encode identity: %w", err)
	}
	path := filepath.Join(dir, identityFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	_, err = f.Write(append(raw, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ErrLocked is in the chain of the error that Open returns when another
// process uses the data directory.
var ErrLocked = errors.New("data directory is in use")

// lockDir takes the directory for this process. The kernel gives the lock back
// when the process ends, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "LOCK")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock file: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		owner := make([]byte, 32)
		n, _ := f.ReadAt(owner, 0)
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w by process %s: stop that coordinator, or give this one another data directory",
			dir, ErrLocked, strings.TrimSpace(string(owner[:n]))), f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}
