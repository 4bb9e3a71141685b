package consensus

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// TestSealedTailIsReopened makes what a kill between sealing a segment and
// recording that leaves behind, and goes on with it.
func TestSealedTailIsReopened(t *testing.T) {
	dir := t.TempDir()
	w, err := openWAL(dir, newBridge(nop()))
	if err != nil {
		t.Fatal(err)
	}
	const entries = 10
	for i := range uint64(entries) {
		if err := w.StoreLogs([]*raft.Log{{Index: i + 1, Term: 1, Data: []byte{byte(i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.DeleteRange(1, 3); err != nil { // the copy must not need what is gone
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sealTail(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000004-0000000000000001.wal"), []byte("left by an earlier attempt"), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range uint64(2) { // repaired, then ordinary
		w, err := openWAL(dir, newBridge(nop()))
		if err != nil {
			t.Fatal(err)
		}
		next := entries + 1 + round
		if err := w.StoreLogs([]*raft.Log{{Index: next, Term: 1, Data: []byte{byte(next - 1)}}}); err != nil {
			t.Fatal(err)
		}
		for i := uint64(4); i <= next; i++ {
			var l raft.Log
			if err := w.GetLog(i, &l); err != nil || l.Data[0] != byte(i-1) {
				t.Fatalf("entry %d: %v %v", i, l.Data, err)
			}
		}
		if first, err := w.FirstIndex(); err != nil || first != 4 {
			t.Fatalf("first entry is %d, %v", first, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func sealTail(t *testing.T, dir string) {
	t.Helper()
	var db metadb.BoltMetaDB
	state, err := db.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := segment.NewFiler(dir, walfs.New()).RecoverTail(state.Segments[len(state.Segments)-1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tail.ForceSeal(); err != nil {
		t.Fatal(err)
	}
	if err := tail.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	plain, err := wal.Open(dir, wal.WithLogger(newBridge(nop()))) // what raft-wal makes of it alone
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.StoreLogs([]*raft.Log{{Index: 11, Term: 1}}); err != types.ErrSealed {
		t.Fatalf("raft-wal goes on with a sealed tail (%v): waltail.go is not needed any more", err)
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
}
