package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// sealFile holds the SHA-256 of a snapshot's meta.json. raft checks the state of
// a snapshot, but not the members and the index that its description names.
const sealFile = "meta.sum"

// sealMeta writes the seal of a complete snapshot, durably.
func sealMeta(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	path := filepath.Join(dir, sealFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(sum[:]) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// sealMissing seals a snapshot that was found sound and has no seal yet.
func sealMissing(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, sealFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := sealMeta(dir); err != nil {
		return fmt.Errorf("cannot seal snapshot: %w", err)
	}
	return nil
}

// checkSeal compares a description with its seal. A snapshot without one is of an
// earlier version, or the process died right after completing it.
func checkSeal(dir string, raw []byte) error {
	want, err := os.ReadFile(filepath.Join(dir, sealFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	if !bytes.Equal(bytes.TrimSpace(want), []byte(hex.EncodeToString(sum[:]))) {
		return fmt.Errorf("its description is not what was written")
	}
	return nil
}
