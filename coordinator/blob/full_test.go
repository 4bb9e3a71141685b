package blob

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"
)

func TestDirKeepsTheReserve(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for free, want := range map[int64]error{DiskReserve - 1: ErrFull, DiskReserve + 99: ErrFull, DiskReserve + 100: nil} {
		d.free = func() (int64, error) { return free, nil }
		if _, _, err := d.Put(t.Context(), bytes.NewReader(make([]byte, 100)), nil, 1000); !errors.Is(err, want) {
			t.Errorf("100 bytes with %d free: %v, want %v", free-DiskReserve, err, want)
		}
	}
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil || len(entries) != 256 {
		t.Errorf("%d entries, want the 256 folders alone: %v", len(entries), err)
	}
}
