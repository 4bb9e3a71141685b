package consensus

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAnEmptyDirectoryIsANewServer: a server that lost its disk must not vote as
// the one that it was; it keeps its id only with its data.
func TestAnEmptyDirectoryIsANewServer(t *testing.T) {
	dir := t.TempDir()
	first, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := loadIdentity(dir); err != nil || again != first {
		t.Errorf("the same directory is %+v, then %+v: %v", first, again, err)
	}
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	if wiped, err := loadIdentity(dir); err != nil || wiped.ServerID == first.ServerID {
		t.Errorf("the emptied directory is %s again: %v", wiped.ServerID, err)
	}
}
