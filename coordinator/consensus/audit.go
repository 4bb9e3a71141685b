package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/raft"
)

// The keys under which raft 1.7.3 keeps its term and its vote.
const (
	keyCurrentTerm = "CurrentTerm"
	keyVoteTerm    = "LastVoteTerm"
	keyCandidate   = "LastVoteCand"
)

// DamageError says that a data directory does not hold what this node promised
// with it, or that something in it is not what was written. The node does not
// start: it could vote for a leader that lacks what it had acknowledged, or serve
// something wrong.
type DamageError struct {
	Dir string
	Err error // what is wrong
}

// Error implements error; it ends with the repair.
func (e *DamageError) Error() string {
	return fmt.Sprintf("cannot start: %v in %s: with other coordinators running, remove this data directory and let this one join again; alone, restore a backup", e.Err, e.Dir)
}

// Unwrap returns what is wrong.
func (e *DamageError) Unwrap() error { return e.Err }

// damaged makes err a *DamageError, unless it says that this process may not or
// cannot read: then nothing has to be removed.
func damaged(dir string, err error) error {
	if err == nil || errors.As(err, new(*DamageError)) {
		return err
	}
	for _, other := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.EROFS, syscall.ENOMEM} {
		if errors.Is(err, other) {
			return fmt.Errorf("cannot open raft log in %s: %w", dir, err)
		}
	}
	return &DamageError{Dir: dir, Err: err}
}

// caught runs op, in which a library reads a file that may be damaged: what it
// answers with a panic, or with a fault because a mapped file is too short,
// becomes an error.
func caught(op func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be read: %v", p)
		}
	}()
	return op()
}

// openWatermark opens the promise of the directory and holds the directory to it.
func (n *Node) openWatermark() error {
	dir := n.cfg.Directory.logDir()
	mark, file, fresh, err := openWatermark(dir, n.server)
	if err != nil {
		return err
	}
	n.release = append(n.release, file.Close)
	if err := caught(func() error { return n.audit(mark, fresh) }); err != nil {
		return damaged(dir, err)
	}
	n.store.mark = mark
	return nil
}

// audit compares what the directory holds with what this node promised, and reads
// every entry that raft is about to apply. raft itself would panic at the first
// that is missing, and skip the rest silently where the log ends early.
func (n *Node) audit(mark *watermark, fresh bool) error {
	has, log, err := n.holds()
	if err != nil {
		return err
	}
	// A cluster is joined or formed once, after the file was made.
	if was := mark.current(); was.cluster == "" {
		if err := mark.change(func(p *promise) { p.cluster = has.cluster }); err != nil {
			return err
		}
	}
	if fresh {
		// A directory of a version that kept no watermark: it holds from now on.
		if err := mark.change(func(p *promise) { *p = has }); err != nil {
			return err
		}
		if err := mark.flush(); err != nil {
			return err
		}
	}
	was := mark.current()
	switch {
	case was.server != n.server:
		return fmt.Errorf("there is the log of server %s, and this one is %s: the directory is mixed from two", was.server, n.server)
	case was.cluster != "" && has.cluster != "" && was.cluster != has.cluster:
		return fmt.Errorf("there is the log of cluster %s, and the identity names %q", was.cluster, has.cluster)
	case has.index < was.index:
		return fmt.Errorf("the log was cut: it ends at entry %d, and entries up to %d were acknowledged", has.index, was.index)
	case has.term < was.term:
		return fmt.Errorf("the vote store is older than it was: term %d, and this node took part in %d", has.term, was.term)
	case has.voteTerm < was.voteTerm, has.voteTerm == was.voteTerm && was.candidate != "" && has.candidate != was.candidate:
		return fmt.Errorf("the vote store is not what was written: this node voted in term %d", was.voteTerm)
	case has.voteTerm > has.term:
		return fmt.Errorf("the vote store is not what was written: term %d, and a vote in %d", has.term, has.voteTerm)
	}
	if err := n.rewriteTerm(has.term); err != nil {
		return err
	}
	return n.readLog(log)
}

// startError is why raft did not start. It panics where it cannot read or write.
func (n *Node) startError(err error) error {
	if failed := n.failure(); failed != nil && n.cfg.Memory == nil {
		return damaged(n.cfg.Directory.logDir(), failed)
	}
	return fmt.Errorf("cannot start raft: %w", err)
}

// rewriteTerm writes what is there already: damage in those parts of the vote
// store that only a write reads must be found now, because raft panics when it
// cannot write its term.
func (n *Node) rewriteTerm(term uint64) error {
	if term == 0 {
		return nil // nothing was ever written
	}
	if err := n.store.backend.SetUint64([]byte(keyCurrentTerm), term); err != nil {
		return fmt.Errorf("the vote store cannot be written: %w", err)
	}
	return nil
}

// span is the entries of the log, and the snapshot below them.
type span struct{ first, last, snapshot uint64 }

// holds is what the directory can vouch for.
func (n *Node) holds() (has promise, log span, err error) {
	if log.first, err = n.store.backend.FirstIndex(); err != nil {
		return has, log, err
	}
	if log.last, err = n.store.backend.LastIndex(); err != nil {
		return has, log, err
	}
	log.snapshot = n.snapshotIndex()
	has.server, has.index = n.server, max(log.last, log.snapshot)
	if has.index > 0 { // before that the node may still be taken into another one
		has.cluster = n.Identity().ClusterID
	}
	if has.term, err = n.store.backend.GetUint64([]byte(keyCurrentTerm)); err != nil && !isUnset(err) {
		return has, log, err
	}
	if has.voteTerm, err = n.store.backend.GetUint64([]byte(keyVoteTerm)); err != nil && !isUnset(err) {
		return has, log, err
	}
	raw, err := n.store.backend.Get([]byte(keyCandidate))
	if err != nil && !isUnset(err) {
		return has, log, err
	}
	has.candidate = string(raw)
	return has, log, nil
}

// isUnset is how raft itself tells a key that was never set, for want of an error
// that the stores share.
func isUnset(err error) bool { return err.Error() == "not found" }

// readLog reads what follows the snapshot.
func (n *Node) readLog(log span) error {
	if log.last == 0 {
		return nil
	}
	if log.first > log.snapshot+1 {
		return fmt.Errorf("entries are missing: the newest snapshot ends at %d, and the log begins at %d", log.snapshot, log.first)
	}
	var entry raft.Log
	for i := log.snapshot + 1; i <= log.last; i++ {
		if err := n.store.entry(i, &entry); err != nil {
			return fmt.Errorf("entry %d of the log cannot be read: %w", i, err)
		}
	}
	return nil
}

// snapshotIndex is how far the newest snapshot goes, 0 when there is none.
func (n *Node) snapshotIndex() uint64 {
	list, err := n.snaps.List()
	if err != nil || len(list) == 0 {
		return 0
	}
	return list[0].Index
}
