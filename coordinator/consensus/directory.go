package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"windlass/coordinator/peer"
)

// Directory is a coordinator's data directory while this process holds it: its
// lock, and who the node in it is. It is opened before the peer port, whose
// handshakes carry the identity, and Open takes it over.
type Directory struct {
	path string
	lock *os.File

	mu sync.Mutex
	id Identity
}

// OpenDirectory takes the directory for this process, making it and the
// identity in it when they are not there. An error of another process that
// holds it wraps ErrLocked.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(filepath.Join(path, "raft"), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data directory: %w: set data to a directory that this user may write", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Directory{path: path, lock: lock}
	if d.id, err = loadIdentity(d.logDir()); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *Directory) logDir() string { return filepath.Join(d.path, "raft") }

// Self is the identity for the handshakes of a peer port. The cluster changes
// once, when the node forms or joins one.
func (d *Directory) Self() peer.Identity { return d.identity().self() }

// Close gives the directory back.
func (d *Directory) Close() error { return d.lock.Close() }

func (d *Directory) identity() Identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id
}

func (d *Directory) save(id Identity) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := saveIdentity(d.logDir(), id); err != nil {
		return err
	}
	d.id = id
	return nil
}

// home keeps who a node is: a Directory, or a Memory.
type home interface {
	identity() Identity
	save(Identity) error
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
