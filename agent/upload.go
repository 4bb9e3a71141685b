package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"windlass/agent/shim"
	"windlass/protocol"
)

// upload stores what a result has beside its row: a large output and its files. It
// asks for leave first, so that nothing is sent that has no room, and repeats until
// the coordinators have it all. What can never be stored becomes the job's failure.
// An error says that nobody waits for the result any more.
func (at *attempt) upload(e shim.Entry, f *protocol.Finish) error {
	large := len(f.Output) > protocol.InlineOutput
	if !large && len(f.Files) == 0 {
		return nil
	}
	ctx, cancel := at.wanted()
	defer cancel()
	at.setUploading(true)
	defer at.setUploading(false)
	if large {
		sum := sha256.Sum256(f.Output)
		f.OutputRef = &protocol.BlobRef{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(f.Output))}
	}
	b := backoff{}
	for {
		err := at.sendOutputs(ctx, e, f)
		if err == nil {
			if large {
				f.Output = nil
			}
			return nil
		}
		if ctx.Err() != nil {
			return errDetach
		}
		if failure := unstorable(err); failure != nil {
			f.Outcome, f.Error, f.Retryable = protocol.OutcomeFailed, failure, false
			f.Output, f.OutputRef, f.Files = nil, nil, nil
			return nil
		}
		at.agent.log.Warn().Err(err).Stringer("job", f.Job).Msg("an output cannot be stored yet")
		if !b.wait(ctx) {
			return errDetach
		}
	}
}

// wanted returns a context that ends when nobody waits for the result any more.
func (at *attempt) wanted() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(at.agent.life)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-at.settled:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-over
	}
}

// unstorable is the failure of a job whose output is refused for good; nil when it
// may be taken later.
func unstorable(err error) *protocol.JobError {
	var e *protocol.Error
	if !errors.As(err, &e) {
		if errors.Is(err, errDamaged) {
			return &protocol.JobError{Code: protocol.CodeInternal, Message: err.Error()}
		}
		return nil
	}
	switch e.Code {
	case protocol.CodeStorageLimit:
		// Without numbers the coordinators' disks are full, which passes.
		if e.Details["estimatedSizeBytes"] == nil {
			return nil
		}
		return &protocol.JobError{Code: e.Code, Message: e.Message, Details: e.Details}
	case protocol.CodeValidation, protocol.CodeTooLarge:
		return &protocol.JobError{Code: protocol.CodeOutputInvalid, Message: "the output was refused: " + e.Message, Details: e.Details}
	}
	return nil
}

// errDamaged says that a file is not on this host any more as it was taken.
var errDamaged = errors.New("an output file was damaged on the agent's disk")

// sendOutputs asks for leave once and sends what was granted.
func (at *attempt) sendOutputs(ctx context.Context, e shim.Entry, f *protocol.Finish) error {
	a := at.agent
	inc, ok := a.session.current(ctx)
	if !ok {
		return context.Cause(ctx)
	}
	id := a.table.key(at)
	grants, err := a.deps.Coordinator.GrantOutputs(ctx, protocol.GrantRequest{
		Agent: a.id, Incarnation: inc, Job: id.Job, Attempt: id.Attempt, Output: f.OutputRef, Files: f.Files,
	})
	if missing(err) && len(f.Files) == 0 {
		return a.deps.Coordinator.PutBlob(ctx, f.OutputRef.SHA256, f.OutputRef.Size, bytes.NewReader(f.Output))
	}
	if err != nil {
		return err
	}
	for _, g := range grants.Grants {
		if err := at.sendGranted(ctx, g, e, f); err != nil {
			return err
		}
	}
	return nil
}

// missing reports whether a coordinator of the version before answered, which
// takes outputs without being asked.
func missing(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeNotFound || code == protocol.CodeMethodNotAllowed
}

func (at *attempt) sendGranted(ctx context.Context, g protocol.UploadGrant, e shim.Entry, f *protocol.Finish) error {
	if f.OutputRef != nil && g.SHA256 == f.OutputRef.SHA256 {
		return at.agent.deps.Coordinator.PutOutput(ctx, g, bytes.NewReader(f.Output))
	}
	for n, file := range f.Files {
		if file.SHA256 == g.SHA256 {
			return at.sendFile(ctx, g, e.FilePath(at.agent.journal.dir, n))
		}
	}
	return fmt.Errorf("cannot use grant: nothing of the result has the digest %s", g.SHA256)
}

func (at *attempt) sendFile(ctx context.Context, g protocol.UploadGrant, path string) error {
	src, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	defer func() { _ = src.Close() }()
	info, err := src.Stat()
	if err != nil || info.Size() != g.Size {
		return fmt.Errorf("%w: it has not %d bytes", errDamaged, g.Size)
	}
	var body io.ReadSeeker = src
	return at.agent.deps.Coordinator.PutOutput(ctx, g, body)
}

// setUploading notes, and tells, what a finished attempt is waiting for.
func (at *attempt) setUploading(on bool) {
	at.mu.Lock()
	at.uploading, at.told = on, false
	at.mu.Unlock()
	if on {
		at.agent.reporter.dirty(true) // it takes a while, and the slot is free
	}
}
