package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

const (
	// copyBytes bounds what is held in memory while a tail is copied.
	copyBytes = 4 << 20

	// tailGrowth is what a copied tail may grow by before it is sealed. It must
	// hold the index of a full segment, or the copy would seal itself.
	tailGrowth = 16 << 20
)

// walMeta is raft-wal's metadata store, and repairs at load what raft-wal 0.4.2
// does not: when the process died, or the disk filled up, between sealing the
// tail segment and recording that, every later start finds a tail that refuses
// entries for ever ("segment is sealed").
type walMeta struct {
	metadb.BoltMetaDB
}

// Load implements types.MetaStore. The entries of such a tail are copied to a
// new one; recording that is atomic, and raft-wal then removes the old file. A
// crash before it leaves everything as it was.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.BoltMetaDB.Load(dir)
	if err != nil || len(state.Segments) == 0 {
		return state, err
	}
	tail := &state.Segments[len(state.Segments)-1]
	if !tail.SealTime.IsZero() {
		return state, nil
	}
	fresh, err := unseal(segment.NewFiler(dir, walfs.New()), *tail, state.NextSegmentID)
	if err != nil {
		return state, fmt.Errorf("cannot repair log segment in %s: %w", filepath.Clean(dir), err)
	}
	if fresh.ID == tail.ID {
		return state, nil
	}
	*tail = fresh
	state.NextSegmentID++
	return state, m.CommitState(state)
}

// unseal returns tail when it takes entries, or else the description of a copy
// that does, durable under the given segment id.
func unseal(files *segment.Filer, tail types.SegmentInfo, id uint64) (types.SegmentInfo, error) {
	old, err := files.RecoverTail(tail)
	if errors.Is(err, fs.ErrNotExist) {
		return tail, nil // recorded but not made yet: raft-wal makes it
	}
	if err != nil {
		return tail, err
	}
	sealed, _, err := old.Sealed()
	if err != nil || !sealed {
		return tail, errors.Join(err, old.Close())
	}
	fresh := tail
	fresh.ID, fresh.BaseIndex = id, tail.MinIndex
	fresh.CreateTime, fresh.SizeLimit = time.Now(), tail.SizeLimit+tailGrowth
	// What an earlier attempt left behind.
	if err := files.Delete(fresh.BaseIndex, id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return tail, errors.Join(err, old.Close())
	}
	to, err := files.Create(fresh)
	if err != nil {
		return tail, errors.Join(err, old.Close())
	}
	err = copyEntries(to, old, tail.MinIndex)
	return fresh, errors.Join(err, to.Close(), old.Close())
}

// copyEntries appends everything from index first on; each append is synced.
func copyEntries(to, from types.SegmentWriter, first uint64) error {
	var group []types.LogEntry
	size := 0
	for i := first; i <= from.LastIndex(); i++ {
		buf, err := from.GetLog(i)
		if err != nil {
			return err
		}
		data := append([]byte(nil), buf.Bs...)
		if err := buf.Close(); err != nil {
			return err
		}
		group, size = append(group, types.LogEntry{Index: i, Data: data}), size+len(data)
		if size >= copyBytes || i == from.LastIndex() {
			if err := to.Append(group); err != nil {
				return err
			}
			group, size = nil, 0
		}
	}
	return nil
}
