package blob_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"windlass/coordinator/blob"
	"windlass/coordinator/blob/blobtest"
)

func openDir(t *testing.T, path string) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDir(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return openDir(t, t.TempDir()) })
}

func TestDirFindsCorruption(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	content := bytes.Repeat([]byte("payload "), 1000)
	for name, damage := range map[string]func([]byte) []byte{
		"one bit": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"grown":   func(b []byte) []byte { return append(b, 0) },
		"empty":   func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			digest, _, err := d.Put(t.Context(), bytes.NewReader(content), nil, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			text := hex.EncodeToString(digest[:])
			file := filepath.Join(path, text[:2], text)
			if err := os.WriteFile(file, damage(bytes.Clone(content)), 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := blob.ReadAll(t.Context(), d, digest, 1<<20); !errors.Is(err, blob.ErrCorrupt) {
				t.Errorf("damage was served: %v", err)
			}
			// Writing it again repairs it.
			if _, _, err := d.Put(t.Context(), bytes.NewReader(content), &digest, 1<<20); err != nil {
				t.Fatal(err)
			}
			if b, err := blob.ReadAll(t.Context(), d, digest, 1<<20); err != nil || !bytes.Equal(b, content) {
				t.Errorf("not repaired: %v", err)
			}
		})
	}
}

func TestDirRemovesUnfinishedFiles(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "tmp-ABC"), []byte("half"), 0o640); err != nil {
		t.Fatal(err)
	}
	openDir(t, path)
	if _, err := os.Stat(filepath.Join(path, "tmp-ABC")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

func TestDirIsConfined(t *testing.T) {
	path := t.TempDir()
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, path)
	text := hex.EncodeToString(make([]byte, 32))
	if err := os.Symlink(outside, filepath.Join(path, text[:2], text)); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.ReadAll(t.Context(), d, blob.Digest{}, 1<<20); err == nil {
		t.Error("a link out of the folder was followed")
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(hex.EncodeToString(make([]byte, 32)))
	f.Add("../../../../etc/passwd")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := blob.ParseDigest(s)
		if err == nil && hex.EncodeToString(d[:]) != s {
			t.Fatalf("%q was read as %x", s, d)
		}
	})
}
