//go:build compat

package compat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is the root, as seen from this package.
const repository = "../.."

// binaries builds the current version from the working tree, and the one before
// from the commit that PREVIOUS names.
func binaries(t *testing.T) (current, previous string) {
	t.Helper()
	raw, err := os.ReadFile("PREVIOUS")
	if err != nil {
		t.Fatal(err)
	}
	commit := strings.TrimSpace(string(raw))
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	if err := checkout(commit, source); err != nil {
		t.Fatalf("cannot check out %s, which PREVIOUS names: %v: fetch the whole history", commit, err)
	}
	current, previous = filepath.Join(dir, "windlass"), filepath.Join(dir, "windlass-previous")
	for _, b := range []struct{ root, out string }{{repository, current}, {source, previous}} {
		if err := build(b.root, b.out); err != nil {
			t.Fatal(err)
		}
	}
	return current, previous
}

// checkout writes the files of a commit, without touching the working tree or
// leaving anything in the repository.
func checkout(commit, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	from := exec.Command("git", "-C", repository, "archive", "--format=tar", commit)
	to := exec.Command("tar", "-x", "-C", dir)
	if to.Stdin, err = from.StdoutPipe(); err != nil {
		return err
	}
	var said strings.Builder
	from.Stderr, to.Stderr = &said, &said
	if err := from.Start(); err != nil {
		return err
	}
	if err := errors.Join(to.Run(), from.Wait()); err != nil {
		return fmt.Errorf("%w: %s", err, said.String())
	}
	return nil
}

func build(root, out string) error {
	cmd := exec.Command("go", "build", "-tags=hashicorpmetrics", "-buildvcs=false", "-trimpath", "-o", out, "./cmd/windlass")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build in %s: %w\n%s", root, err, said)
	}
	return nil
}
