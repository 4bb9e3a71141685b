package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// MinResidence is how long an ended job stays in memory, whatever memory needs:
	// twice the time that a write is tried (api, 15 s). A repeated Submit or Finish
	// finds its row, and is answered as the first was.
	MinResidence = 30 * time.Second

	// memoryShare of state.maxBytes, in percent, is where ended jobs begin to leave
	// early: what remains is for jobs that wait and run.
	memoryShare = 50

	// relief of the early ones is how far they go below their bound, in percent of
	// it, so that each pass makes a segment worth its name. worthwhile is what the
	// ended jobs must have of state.maxBytes for them to be the ones to go.
	relief     = 10
	worthwhile = 2

	// segmentJobs and segmentBytes bound a new segment before compression: it is
	// made in memory.
	segmentJobs  = 32 << 10
	segmentBytes = 64 << 20

	// EvictBatch bounds the rows that one command removes: its apply stays a
	// fraction of a millisecond per hundred jobs, and other commands are not held
	// up behind it.
	EvictBatch = 256

	// maxMerges bounds the segments that one pass rewrites, so that jobs which wait
	// to leave memory are not held up.
	maxMerges = 4

	// storeTime bounds the writing of one segment to the blob store.
	storeTime = 2 * time.Minute
)

// Keeper moves ended jobs out of memory, and out of the archive when their time
// is over. It is the leader's: one at a time does passes, one after the other.
type Keeper struct {
	After   time.Duration // how long an ended job stays in memory
	Keep    time.Duration // how long it can be found after it ended
	Count   int           // how many ended jobs stay in memory at most
	Store   *state.Store
	Blobs   blob.Store
	Archive *Archive
	// Propose applies commands and returns their results. An error means that they
	// may have been applied.
	Propose func(context.Context, ...*command.Command) ([]command.Result, error)
	NowMs   func() int64 // the leader's clock, unix milliseconds
}

// Pressed reports whether ended jobs must leave before their time.
func (k *Keeper) Pressed(view *state.View) bool { return k.pressed(view, 0) }

// pressed reports whether ended jobs must leave before their time: there are too
// many of them, or memory is short and they have a part of it worth moving.
// below is how far under the bounds they have to go, in percent.
func (k *Keeper) pressed(view *state.View, below int64) bool {
	jobs, size := view.Ended()
	limit := view.Settings().MaxBytes / 100
	return int64(jobs)*100 > int64(k.Count)*(100-below) ||
		limit > 0 && view.Bytes() > limit*memoryShare*(100-below)/100 && size > limit*worthwhile
}

// Pass does all that is due; pressed is what Pressed said. An error says that some
// of it was not done; the next pass does it. What needs no blob store comes first.
func (k *Keeper) Pass(ctx context.Context, pressed bool) error {
	if err := errors.Join(k.expire(ctx), k.dropKeys(ctx), k.dropOutputs(ctx), k.dropSegments(ctx)); err != nil {
		return err
	}
	if k.Store.View().Meta().Feature < command.FeatureArchive {
		return nil // a coordinator of an older version could not follow
	}
	for {
		view := k.Store.View()
		endedBefore := k.NowMs() - max(k.After, MinResidence).Milliseconds()
		if pressed && k.pressed(view, relief) {
			endedBefore = k.NowMs() - MinResidence.Milliseconds()
		}
		rows, more := Due(view, endedBefore, segmentJobs, segmentBytes)
		if len(rows) > 0 {
			if err := k.move(ctx, view, rows); err != nil {
				return err
			}
		}
		if !more {
			break
		}
	}
	return k.merge(ctx)
}

// expire removes jobs from memory that ended longer ago than archive.keep: they
// were not archived, because the blob store or an older version did not let them.
func (k *Keeper) expire(ctx context.Context) error {
	for {
		rows, more := Due(k.Store.View(), k.NowMs()-k.Keep.Milliseconds(), EvictBatch, segmentBytes)
		if len(rows) == 0 {
			return nil
		}
		evict := &command.Evict{}
		for _, j := range rows {
			evict.Jobs = append(evict.Jobs, j.ID[:])
		}
		if _, err := k.do(ctx, &command.Command{Op: &command.Command_Evict{Evict: evict}}); err != nil {
			return fmt.Errorf("cannot remove expired jobs: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// dropKeys removes idempotency keys that are free.
func (k *Keeper) dropKeys(ctx context.Context) error {
	for k.Store.View().KeyExpired() {
		r, err := k.do(ctx, &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{}}})
		if err != nil {
			return fmt.Errorf("cannot remove expired idempotency keys: %w", err)
		}
		if r.Replayed {
			return nil
		}
	}
	return nil
}

// dropOutputs forgets stored outputs whose time is over: their blobs are garbage.
func (k *Keeper) dropOutputs(ctx context.Context) error {
	for k.Store.View().StoredExpired(k.NowMs()) {
		r, err := k.do(ctx, &command.Command{Op: &command.Command_ExpireOutputs{ExpireOutputs: &command.ExpireOutputs{}}})
		if err != nil {
			return fmt.Errorf("cannot remove expired outputs: %w", err)
		}
		if r.Replayed {
			return nil
		}
	}
	return nil
}

// dropSegments forgets segments without a job that can still be found. Their
// blobs, and those that only their jobs name, are garbage then.
func (k *Keeper) dropSegments(ctx context.Context) error {
	drop := &command.DropSegment{EndedBeforeMs: k.NowMs() - k.Keep.Milliseconds()}
	for _, g := range k.Store.View().Segments() {
		if g.NewestEndMs < drop.EndedBeforeMs {
			drop.Numbers = append(drop.Numbers, g.Number)
		}
	}
	if len(drop.Numbers) == 0 {
		return nil
	}
	if _, err := k.do(ctx, &command.Command{Op: &command.Command_DropSegment{DropSegment: drop}}); err != nil {
		return fmt.Errorf("cannot drop archive segments: %w", err)
	}
	return nil
}

// move writes rows of the view to a segment, and when that is durable removes
// them. A leader that fails in between leaves a blob that nothing names, or rows
// that are in memory and in a segment: memory goes first, and they are moved again.
func (k *Keeper) move(ctx context.Context, view *state.View, rows []*state.Job) error {
	w := k.Archive.NewWriter()
	for _, j := range rows {
		if err := w.Add(j); err != nil {
			return err
		}
	}
	segment, err := k.save(ctx, view, w)
	if err != nil {
		return err
	}
	cmd := &command.Archive{Number: segment.Number, Segment: segment}
	for len(rows) > 0 {
		n := min(len(rows), EvictBatch)
		for _, j := range rows[:n] {
			cmd.Jobs = append(cmd.Jobs, &command.Archived{Job: j.ID[:], Index: j.Index})
		}
		if _, err := k.do(ctx, &command.Command{Op: &command.Command_Archive{Archive: cmd}}); err != nil {
			return fmt.Errorf("cannot move jobs to the archive: %w", err)
		}
		rows, cmd = rows[n:], &command.Archive{Number: segment.Number}
	}
	return nil
}

// save writes a segment to the blob store, with the number that follows the
// view's newest.
func (k *Keeper) save(ctx context.Context, view *state.View, w *Writer) (*command.Segment, error) {
	file, segment := w.Finish(view.Meta().Segment + 1)
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	digest := blob.Digest(segment.Sha256)
	if _, _, err := k.Blobs.Put(ctx, bytes.NewReader(file), &digest, int64(len(file))); err != nil {
		return nil, fmt.Errorf("cannot store an archive segment of %s: %w", protocol.FormatBytes(int64(len(file))), err)
	}
	return segment, nil
}

// merge makes one segment of several, so that a lookup has few to look into.
func (k *Keeper) merge(ctx context.Context) error {
	for range maxMerges {
		view := k.Store.View()
		group := Mergeable(view.Segments(), k.NowMs(), k.Archive.Damaged)
		if group == nil {
			return nil
		}
		w := k.Archive.NewWriter()
		if err := k.Archive.Merge(ctx, group, w); err != nil {
			return fmt.Errorf("cannot merge archive segments: %w", err)
		}
		if w.Jobs() == 0 {
			return nil // all have expired; they are dropped next time
		}
		segment, err := k.save(ctx, view, w)
		if err != nil {
			return err
		}
		cmd := &command.Archive{Number: segment.Number, Segment: segment}
		for _, g := range group {
			cmd.Replaces = append(cmd.Replaces, g.Number)
		}
		if _, err := k.do(ctx, &command.Command{Op: &command.Command_Archive{Archive: cmd}}); err != nil {
			return fmt.Errorf("cannot merge archive segments: %w", err)
		}
	}
	return nil
}

// do proposes one command. A refusal is an error: only one leader archives, and
// it has just read the state.
func (k *Keeper) do(ctx context.Context, c *command.Command) (command.Result, error) {
	r, err := k.Propose(ctx, c)
	if err != nil {
		return command.Result{}, err
	}
	if r[0].Code != "" {
		return command.Result{}, protocol.NewError(r[0].Code, r[0].Message)
	}
	return r[0], nil
}
