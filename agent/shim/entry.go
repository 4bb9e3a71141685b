package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"windlass/protocol"
)

// Entry is one journal file: the result of one attempt with everything inline,
// written before anybody is told of it (DESIGN 5).
type Entry struct {
	Version int             `json:"version"`
	Ended   protocol.Time   `json:"ended"` // wall clock of this host
	Finish  protocol.Finish `json:"finish"`
	// Files is the directory below FilesDir that has the files of Finish, each
	// under its number; empty when there are none.
	Files string `json:"files,omitempty"`
}

// Key names one attempt.
type Key = protocol.HeldAttempt

// EntryPath is the file of an attempt's result in a journal directory.
func EntryPath(journal string, k Key) string {
	return filepath.Join(journal, k.Job.String()+"."+strconv.FormatUint(uint64(k.Attempt), 10)+".json")
}

// filesName is the directory of a journal that has the files of its entries.
const filesName = "files"

// FilesDir is where a journal keeps the files of a run.
func FilesDir(journal, run string) string { return filepath.Join(journal, filesName, run) }

// FilePath is the n-th file of an entry.
func (e Entry) FilePath(journal string, n int) string {
	return filepath.Join(FilesDir(journal, e.Files), strconv.Itoa(n))
}

// syncFiles makes the names of a run's files durable; their bytes are already.
func syncFiles(journal, run string) error {
	if run == "" {
		return nil
	}
	return errors.Join(syncDir(FilesDir(journal, run)), syncDir(FilesDir(journal, "")))
}

// RemoveFiles drops the files of a run; missing ones are no error.
func RemoveFiles(journal, run string) error {
	if run == "" {
		return nil
	}
	if err := os.RemoveAll(FilesDir(journal, run)); err != nil {
		return fmt.Errorf("cannot drop the files of a result: %w", err)
	}
	return nil
}

// ParseEntryName reads the attempt that a journal file is named after.
func ParseEntryName(name string) (Key, bool) {
	base, ok := strings.CutSuffix(name, ".json")
	if !ok {
		return Key{}, false
	}
	job, number, ok := strings.Cut(base, ".")
	if !ok {
		return Key{}, false
	}
	id, err := protocol.ParseJobID(job)
	if err != nil {
		return Key{}, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != number {
		return Key{}, false
	}
	return Key{Job: id, Attempt: uint32(n)}, true
}

// WriteEntry stores a result durably; the attempt is that of its Finish.
func WriteEntry(journal string, e Entry) error {
	e.Version = Version
	k := Key{Job: e.Finish.Job, Attempt: e.Finish.Attempt}
	if err := writeJSON(EntryPath(journal, k), e); err != nil {
		return fmt.Errorf("cannot write result of %s: %w", k.Job, err)
	}
	return nil
}

// ReadEntry reads one result. A damaged file is an error, never a result.
func ReadEntry(journal string, k Key) (Entry, error) {
	var e Entry
	if err := readJSON(EntryPath(journal, k), &e); err != nil {
		return e, fmt.Errorf("cannot read result of %s: %w", k.Job, err)
	}
	if e.Finish.Job != k.Job || e.Finish.Attempt != k.Attempt {
		return e, fmt.Errorf("cannot use result of %s: the file holds attempt %d of %s", k.Job, e.Finish.Attempt, e.Finish.Job)
	}
	return e, nil
}

// RemoveEntry drops a result that was answered; a missing one is no error.
func RemoveEntry(journal string, k Key) error {
	if err := os.Remove(EntryPath(journal, k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot drop result of %s: %w", k.Job, err)
	}
	return nil
}

// RenumberEntry moves a result to a new attempt. The new file is complete before
// the old one goes, so a crash between leaves two and the fence sorts them out.
func RenumberEntry(journal string, from, to Key) error {
	e, err := ReadEntry(journal, from)
	if err != nil {
		return err
	}
	e.Finish.Attempt = to.Attempt
	if err := WriteEntry(journal, e); err != nil {
		return err
	}
	return RemoveEntry(journal, from)
}
