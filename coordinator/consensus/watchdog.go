package consensus

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"windlass/coordinator/command"
)

// HaltError says why this node must not go on although its disk works.
type HaltError struct {
	Err    error
	Remedy string
}

// Error implements error; it ends with the remedy.
func (e *HaltError) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Remedy) }

// Unwrap returns the reason.
func (e *HaltError) Unwrap() error { return e.Err }

const (
	remedyReplace = "with other coordinators running, remove this data directory and let this one join again; alone, restore a backup"
	remedyVersion = "start the version that the other coordinators run"
	remedyRestart = "start it again; if that repeats, remove this data directory and let this one join again"
)

// Halt ends this node's part in the cluster: nothing is acknowledged any more, and
// Fatal ends the process with err, which is best a *HaltError.
func (n *Node) Halt(err error) { n.store.fail(err) }

// haltOnPanic is given what the state machine panicked with. An error is its way to
// say that it must not go on: the entry is not skipped, and the process ends with
// one clear line; it returns true. Any other panic is a bug and stays one.
func haltOnPanic(p any, fail func(error) error) bool {
	if p == nil {
		return false
	}
	err, ok := p.(error)
	if _, bug := p.(runtime.Error); !ok || bug {
		panic(p)
	}
	remedy := remedyReplace
	var level *command.FeatureError
	switch {
	case errors.As(err, &level):
		err = fmt.Errorf("cannot go on in this cluster: %w", err)
		remedy = "nothing is lost"
	case errors.Is(err, command.ErrUnknown):
		remedy = remedyVersion
	}
	fail(&HaltError{Err: err, Remedy: remedy})
	return true
}

// loopPeriod is how close two snapshots must follow each other to be the loop of
// hashicorp/raft#697: a leader repeats the next one as soon as the last was
// refused to help.
const loopPeriod = time.Minute

// snapshotLoop finds a follower that its leader sends the same snapshot again and
// again: it restores it, still refuses every entry, and looks healthy meanwhile. A
// restart heals it, because the log is cleared then.
type snapshotLoop struct {
	entries func() uint64 // appended so far
	fail    func(error) error

	mu      sync.Mutex
	seen    bool
	at      time.Time
	index   uint64
	entryNo uint64
}

// installed is told of each snapshot that a leader sent, whether the restore
// succeeded or not.
func (l *snapshotLoop) installed(index uint64) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, entries := time.Now(), l.entries()
	if l.seen && index <= l.index && entries == l.entryNo && now.Sub(l.at) < loopPeriod {
		l.fail(&HaltError{
			Err:    fmt.Errorf("the leader sent a snapshot up to entry %d twice within %s and no entry in between: replication is stuck", index, loopPeriod),
			Remedy: remedyRestart,
		})
	}
	l.seen, l.at, l.index, l.entryNo = true, now, index, entries
}
