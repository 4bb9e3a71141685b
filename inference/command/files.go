package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"windlass/inference"
	"windlass/inference/process"
	"windlass/protocol"
)

// outputsName is the directory below a job's own in which every file is handed in.
const outputsName = "outputs"

// namedFile is a file that the child handed in by a message.
type namedFile struct {
	path string // relative to the job's directory
	name string
}

// handIn notes a file; it is taken when the job ends, so that the child may go on
// writing to it.
func (j *job) handIn(path, name string) {
	if filepath.IsAbs(path) {
		// One that is elsewhere stays absolute, or gets dots: it is refused.
		if rel, err := filepath.Rel(j.dir, path); err == nil {
			path = rel
		}
	}
	if name == "" {
		name = filepath.Base(path)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.named) <= protocol.MaxOutputFiles { // one more is seen, and refused
		j.named = append(j.named, namedFile{path: path, name: name})
	}
}

// finalizing tells that the job's outputs are being gathered.
func (j *job) finalizing() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.closed && j.sink != nil {
		j.sink(inference.Event{Type: inference.EventState, Substate: protocol.SubstateFinalizing})
	}
}

// withFiles adds the files that a failed job handed in until then to its failure.
func (j *job) withFiles(ctx context.Context, err error, named []namedFile) error {
	var f *inference.Failure
	if !errors.As(err, &f) {
		return err
	}
	own := *f
	own.Files, _ = j.takeFiles(ctx, named, false) // its own error is the one that counts
	return &own
}

// takeFiles takes what was handed in by message, then what is in the outputs
// directory. With strict set, a file that was named and cannot be taken is the
// job's failure; whatever else lies in the directory is told in the log.
func (j *job) takeFiles(ctx context.Context, named []namedFile, strict bool) ([]inference.File, error) {
	found := listed(filepath.Join(j.dir, outputsName))
	if len(named)+len(found) == 0 || j.files == "" {
		return nil, nil
	}
	j.finalizing()
	t, err := inference.NewFileTaker(j.dir, j.files)
	if err != nil {
		return nil, outputFault(protocol.CodeOutputInvalid, err.Error())
	}
	defer func() { _ = t.Close() }()
	taken := make(map[string]bool)
	for _, n := range named {
		taken[filepath.Clean(n.path)] = true
		if err := t.Take(ctx, n.path, n.name); err != nil {
			if strict || ctx.Err() != nil {
				return nil, notTaken(ctx, n.name, err)
			}
			j.skip(n.name, err)
		}
	}
	for _, name := range found {
		path := filepath.Join(outputsName, name)
		if taken[path] {
			continue
		}
		if err := t.Take(ctx, path, name); err != nil {
			if !refusedFile(err) || errors.Is(err, inference.ErrFileMany) {
				return nil, notTaken(ctx, name, err)
			}
			j.skip(name, err)
		}
	}
	return t.Files(), nil
}

// listed returns the names in a directory, sorted, one more than may be taken at
// most. What is no directory, by the child's doing, has none.
func listed(dir string) []string {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	names, _ := f.Readdirnames(protocol.MaxOutputFiles + 1)
	slices.Sort(names)
	return names
}

// refusedFile reports whether the file is at fault, and not this host.
func refusedFile(err error) bool {
	for _, fault := range []error{
		inference.ErrFileName, inference.ErrFileTwice, inference.ErrFileMany, inference.ErrFileKind, inference.ErrFileSize, inference.ErrFileChanged,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// notTaken is the failure of a job whose file cannot be had.
func notTaken(ctx context.Context, name string, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, inference.ErrFileSize), errors.Is(err, inference.ErrFileMany):
		return outputFault(protocol.CodeOutputTooLarge, fmt.Sprintf("cannot take the file %.200q: %v", name, err))
	case refusedFile(err):
		return outputFault(protocol.CodeOutputInvalid, fmt.Sprintf("cannot take the file %.200q: %v", name, err))
	case errors.Is(err, syscall.ENOSPC):
		return noRoom("copy an output file", err)
	}
	return &inference.Failure{Code: protocol.CodeInternal, Message: "cannot take an output file: " + err.Error(), Retryable: true}
}

// skip tells of a file that is left out.
func (j *job) skip(name string, err error) {
	j.emit(inference.Event{Type: inference.EventLog, Source: process.SourceAgent, Line: fmt.Sprintf("the file %.200q is left out: %v", name, err)})
}
