package inference

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestTakerRefuses: what cannot be taken leaves nothing behind, and what was taken
// stays as it was.
func TestTakerRefuses(t *testing.T) {
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	taker, err := NewFileTaker(dir, to)
	if err != nil {
		t.Fatal(err)
	}
	defer taker.Close()
	if err := taker.Take(t.Context(), "a", "a"); err != nil {
		t.Fatal(err)
	}
	if err := taker.Take(t.Context(), "a", "a"); !errors.Is(err, ErrFileTwice) {
		t.Errorf("the same name twice: %v", err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(ErrCancelled)
	if err := taker.Take(ended, "a", "b"); !errors.Is(err, ErrCancelled) {
		t.Errorf("after the job's end: %v", err)
	}
	if left, _ := os.ReadDir(to); len(left) != 1 || len(taker.Files()) != 1 {
		t.Errorf("%d copies, %d files", len(left), len(taker.Files()))
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 64<<30+1); err != nil {
		t.Fatal(err)
	}
	if err := taker.Take(t.Context(), "a", "c"); !errors.Is(err, ErrFileSize) {
		t.Errorf("a large one: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(taker.Files()[0].Path); err != nil || string(got) != "one" {
		t.Errorf("the copy changed: %q %v", got, err)
	}
}
