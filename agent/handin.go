package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"windlass/agent/shim"
	"windlass/inference"
	"windlass/protocol"
)

// handInFlight bounds the results that are in memory, waiting for their
// answer; more stay in the journal only. One report carries as many.
const handInFlight = 64

// maxInput bounds an input fetched as a blob: the largest body any route takes.
const maxInput = 2 * protocol.MaxBody

// handIn offers a journaled result until it is answered. What is too large to
// travel inline is stored first.
func (at *attempt) handIn(written protocol.HeldAttempt) {
	at.mu.Lock()
	at.phase = finished
	drop := at.drop
	at.mu.Unlock()
	if drop {
		if err := at.agent.journal.discard(written); err != nil {
			at.agent.log.Error().Err(err).Msg("an unwanted result stays in the journal")
		}
		at.settle()
		return
	}
	if !at.permit() {
		return
	}
	defer func() { <-at.agent.handIns }()
	for again := false; ; again = true {
		err := at.prepare(written)
		switch {
		case again && errors.Is(err, fs.ErrNotExist): // it is being settled
		case err != nil:
			at.setAside(written, err)
			return
		default:
			at.agent.reporter.dirty(true)
		}
		select {
		case <-at.settled:
			return
		case <-at.agent.life.Done():
			return
		case <-time.After(protocol.BlobTerm):
		}
		written = at.withdraw(written)
	}
}

// permit waits until one more result may be in memory; false when this one is not
// offered any more. A result that has to wait frees its slot before it is offered.
func (at *attempt) permit() bool {
	select {
	case at.agent.handIns <- struct{}{}:
		return true
	default:
	}
	at.agent.reporter.dirty(true)
	select {
	case at.agent.handIns <- struct{}{}:
		return true
	case <-at.settled:
	case <-at.agent.life.Done():
	}
	return false
}

// setAside ends an attempt whose result cannot be read.
func (at *attempt) setAside(written protocol.HeldAttempt, err error) {
	if at.agent.life.Err() != nil {
		return
	}
	at.agent.log.Error().Err(err).Stringer("job", written.Job).Msg("a result cannot be read and is set aside")
	if err := at.agent.journal.quarantine(written); err != nil {
		at.agent.log.Error().Err(err).Msg("journal is damaged")
	}
	at.fail(fmt.Errorf("the result was damaged on the agent's disk: %w", err))
}

// withdraw offers the result no more, until its payloads were stored again:
// nobody answered it for protocol.BlobTerm, and what no job names is not kept
// much longer. It returns where the entry is.
func (at *attempt) withdraw(written protocol.HeldAttempt) protocol.HeldAttempt {
	at.mu.Lock()
	at.finish = nil
	at.mu.Unlock()
	at.disk.Lock()
	defer at.disk.Unlock()
	if at.stored.Attempt != 0 {
		written = at.stored
	}
	return written
}

// prepare reads the entry and makes the finish that travels.
func (at *attempt) prepare(written protocol.HeldAttempt) error {
	e, err := at.read(written)
	if err != nil {
		return err
	}
	f := e.Finish
	if err := at.upload(e, &f); err != nil {
		return err
	}
	if f.Logs, f.LogsRef, err = at.agent.store(f.Logs, protocol.InlineDetail); err != nil {
		return err
	}
	if f.Chunks, f.ChunksRef, err = at.agent.store(f.Chunks, protocol.InlineDetail); err != nil {
		return err
	}
	if f.Checkpoint, f.CheckpointRef, err = at.agent.store(f.Checkpoint, protocol.InlineDetail); err != nil {
		return err
	}
	at.mu.Lock()
	defer at.mu.Unlock()
	at.finish, at.ended = &f, e.Ended
	return nil
}

// read reads the entry, under the attempt's present number.
func (at *attempt) read(written protocol.HeldAttempt) (shim.Entry, error) {
	dir := at.agent.journal.dir
	at.disk.Lock()
	defer at.disk.Unlock()
	id := at.agent.table.key(at)
	if id != written {
		if err := shim.RenumberEntry(dir, written, id); err != nil {
			return shim.Entry{}, err
		}
	}
	at.stored = id
	e, err := shim.ReadEntry(dir, id)
	at.files = e.Files
	return e, err
}

// moveEntry brings the file to the attempt's present number, so that a restart
// does not offer it under the old one. Before it was read, read does that.
func (at *attempt) moveEntry() {
	at.disk.Lock()
	defer at.disk.Unlock()
	id := at.agent.table.key(at)
	if at.stored.Attempt == 0 || at.stored == id {
		return
	}
	if err := shim.RenumberEntry(at.agent.journal.dir, at.stored, id); err != nil {
		at.agent.log.Error().Err(err).Msg("an adopted result keeps its old number on disk")
		return
	}
	at.stored = id
}

// store keeps a payload inline up to limit, else makes it a blob; it repeats
// until the coordinator has it, and fails only when the agent leaves.
func (a *Agent) store(payload json.RawMessage, limit int) (json.RawMessage, *protocol.BlobRef, error) {
	if len(payload) <= limit {
		return payload, nil, nil
	}
	a.reporter.dirty(true) // storing takes a while, and the slot is free
	sum := sha256.Sum256(payload)
	ref := &protocol.BlobRef{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(payload))}
	b := backoff{}
	for {
		err := a.deps.Coordinator.PutBlob(a.life, ref.SHA256, ref.Size, bytes.NewReader(payload))
		if err == nil {
			return nil, ref, nil
		}
		if a.life.Err() != nil {
			return nil, nil, errDetach
		}
		a.log.Warn().Err(err).Int64("size", ref.Size).Msg("a payload cannot be stored yet")
		if !b.wait(a.life) {
			return nil, nil, errDetach
		}
	}
}

// job returns what the runtime is given: the assignment, with what is a blob
// fetched and checked.
func (a *Agent) job(ctx context.Context, as protocol.Assignment) (inference.Job, error) {
	input, err := a.payload(ctx, as.Job, "input", as.Input, as.InputBlob)
	if err != nil {
		return inference.Job{}, err
	}
	checkpoint, err := a.payload(ctx, as.Job, "checkpoint", as.Checkpoint, as.CheckpointBlob)
	return inference.Job{Input: input, Checkpoint: checkpoint, S3Config: as.S3Config}, err
}

// payload returns a payload that is inline or a blob.
func (a *Agent) payload(ctx context.Context, job protocol.JobID, what string, inline json.RawMessage, sha string) ([]byte, error) {
	if sha == "" {
		return inline, nil
	}
	b := backoff{}
	for {
		data, err := a.fetch(ctx, job, sha)
		switch {
		case err == nil:
			return data, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case protocol.CodeOf(err) == protocol.CodeNotFound:
			return nil, &inference.Failure{Code: protocol.CodeInternal, Message: "cannot fetch the job's " + what + ": " + err.Error(), Retryable: true}
		}
		a.log.Warn().Err(err).Stringer("job", job).Str("payload", what).Msg("a payload cannot be fetched yet")
		if !b.wait(ctx) {
			return nil, context.Cause(ctx)
		}
	}
}

func (a *Agent) fetch(ctx context.Context, job protocol.JobID, sha string) ([]byte, error) {
	r, err := a.deps.Coordinator.GetBlob(ctx, sha, job)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	if hex.EncodeToString(sum[:]) != sha {
		return nil, fmt.Errorf("cannot use payload: %d bytes do not have the digest %s", len(data), sha)
	}
	return data, nil
}
