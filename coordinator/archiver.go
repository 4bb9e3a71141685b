package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// archiveTick is how often the archiver looks whether memory needs it: a
	// pointer load and two comparisons.
	archiveTick = time.Second

	// archiveParts and maxArchivePeriod set how late a job may leave memory, and
	// expire: a twelfth of its term, but not longer than a client that looks
	// at an expired job would find odd. Each pass makes a segment.
	archiveParts     = 12
	maxArchivePeriod = 5 * time.Minute

	// archiveRetry is the pause after a pass that failed, so that a store which is
	// away is not asked, and not logged, every second.
	archiveRetry = 15 * time.Second

	// minResidence is how long an ended job stays in memory, whatever memory needs:
	// twice the time that a write is tried (api, 15 s). A repeated Submit or Finish
	// finds its row, and is answered as the first was.
	minResidence = 30 * time.Second

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

	// evictBatch bounds the rows that one command removes: its apply stays a
	// fraction of a millisecond per hundred jobs, and other commands are not held
	// up behind it.
	evictBatch = 256

	// maxMerges bounds the segments that one pass rewrites, so that jobs which wait
	// to leave memory are not held up.
	maxMerges = 4

	// storeTime bounds the writing of one segment to the blob store.
	storeTime = 2 * time.Minute
)

// archiver is the leader's duty that moves ended jobs out of memory, and out of
// the archive when their time is over.
type archiver struct {
	after   time.Duration // archive.after
	keep    time.Duration // archive.keep
	count   int           // archive.count
	tick    time.Duration
	store   *state.Store
	blobs   blob.Store
	archive *archive.Archive
	propose func(context.Context, ...*command.Command) ([]command.Result, error)
	nowMs   func() int64
	failed  func(error) // a pass did not do all that is due
}

// openArchive opens the archive for lookups, which any coordinator answers.
func (c *Coordinator) openArchive(nowMs func() int64) (*archive.Archive, error) {
	return archive.New(archive.Config{
		Blobs: c.blobs.store, Keep: c.cfg.Archive.Keep.Std(), NowMs: nowMs,
		Alarm: func(u *archive.Unreadable) {
			c.log.Error().Err(u).Uint64("segment", u.Segment).
				Msg("a part of the archive is damaged, and its jobs cannot be shown: bring its blob back from a backup or from another coordinator's blob.dir")
		},
	})
}

// keepArchive is the archiver's leadership.
func (c *Coordinator) keepArchive(ctx context.Context) { c.newArchiver().run(ctx) }

func (c *Coordinator) newArchiver() *archiver {
	return &archiver{
		after: c.cfg.Archive.After.Std(), keep: c.cfg.Archive.Keep.Std(), count: c.cfg.Archive.Count, tick: archiveTick,
		store: c.store, blobs: c.blobs.store, archive: c.archive,
		propose: c.node.Proposer().Propose, nowMs: c.node.Clock().NowMs,
		failed: func(err error) {
			c.log.Warn().Err(err).Msg("ended jobs could not be archived yet: they stay in memory")
		},
	}
}

// run does passes until ctx ends.
func (a *archiver) run(ctx context.Context) {
	period := min(max(min(a.after, a.keep)/archiveParts, archiveTick), maxArchivePeriod)
	var next, retry time.Time
	for {
		now := time.Now()
		pressed := a.pressed(a.store.View(), 0)
		if !now.Before(retry) && (pressed || !now.Before(next)) {
			if err := a.pass(ctx, pressed); err != nil && ctx.Err() == nil {
				a.failed(err)
				retry = time.Now().Add(archiveRetry)
			}
			if !now.Before(next) {
				next = now.Add(period)
			}
		}
		if !pause(ctx, a.tick) {
			return
		}
	}
}

// pressed reports whether ended jobs must leave before their time: there are too
// many of them, or memory is short and they have a part of it worth moving.
// below is how far under the bounds they have to go, in percent.
func (a *archiver) pressed(view *state.View, below int64) bool {
	jobs, size := view.Ended()
	limit := view.Settings().MaxBytes / 100
	return int64(jobs)*100 > int64(a.count)*(100-below) ||
		limit > 0 && view.Bytes() > limit*memoryShare*(100-below)/100 && size > limit*worthwhile
}

// pass does all that is due. What needs no blob store comes first.
func (a *archiver) pass(ctx context.Context, pressed bool) error {
	if err := errors.Join(a.expire(ctx), a.dropKeys(ctx), a.dropSegments(ctx)); err != nil {
		return err
	}
	if a.store.View().Meta().Feature < command.FeatureArchive {
		return nil // a coordinator of an older version could not follow
	}
	for {
		view := a.store.View()
		endedBefore := a.nowMs() - max(a.after, minResidence).Milliseconds()
		if pressed && a.pressed(view, relief) {
			endedBefore = a.nowMs() - minResidence.Milliseconds()
		}
		rows, more := archive.Due(view, endedBefore, segmentJobs, segmentBytes)
		if len(rows) > 0 {
			if err := a.move(ctx, view, rows); err != nil {
				return err
			}
		}
		if !more {
			break
		}
	}
	return a.merge(ctx)
}

// expire removes jobs from memory that ended longer ago than archive.keep: they
// were not archived, because the blob store or an older version did not let them.
func (a *archiver) expire(ctx context.Context) error {
	for {
		rows, more := archive.Due(a.store.View(), a.nowMs()-a.keep.Milliseconds(), evictBatch, segmentBytes)
		if len(rows) == 0 {
			return nil
		}
		evict := &command.Evict{}
		for _, j := range rows {
			evict.Jobs = append(evict.Jobs, j.ID[:])
		}
		if _, err := a.do(ctx, &command.Command{Op: &command.Command_Evict{Evict: evict}}); err != nil {
			return fmt.Errorf("cannot remove expired jobs: %w", err)
		}
		if !more {
			return nil
		}
	}
}

// dropKeys removes idempotency keys that are free.
func (a *archiver) dropKeys(ctx context.Context) error {
	for a.store.View().KeyExpired() {
		r, err := a.do(ctx, &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{}}})
		if err != nil {
			return fmt.Errorf("cannot remove expired idempotency keys: %w", err)
		}
		if r.Replayed {
			return nil
		}
	}
	return nil
}

// dropSegments forgets segments without a job that can still be found. Their
// blobs, and those that only their jobs name, are garbage then.
func (a *archiver) dropSegments(ctx context.Context) error {
	drop := &command.DropSegment{EndedBeforeMs: a.nowMs() - a.keep.Milliseconds()}
	for _, g := range a.store.View().Segments() {
		if g.NewestEndMs < drop.EndedBeforeMs {
			drop.Numbers = append(drop.Numbers, g.Number)
		}
	}
	if len(drop.Numbers) == 0 {
		return nil
	}
	if _, err := a.do(ctx, &command.Command{Op: &command.Command_DropSegment{DropSegment: drop}}); err != nil {
		return fmt.Errorf("cannot drop archive segments: %w", err)
	}
	return nil
}

// move writes rows of the view to a segment, and when that is durable removes
// them. A leader that fails in between leaves a blob that nothing names, or rows
// that are in memory and in a segment: memory goes first, and they are moved again.
func (a *archiver) move(ctx context.Context, view *state.View, rows []*state.Job) error {
	w, err := archive.NewWriter()
	if err != nil {
		return err
	}
	for _, j := range rows {
		if err := w.Add(j); err != nil {
			return err
		}
	}
	segment, err := a.save(ctx, view, w)
	if err != nil {
		return err
	}
	cmd := &command.Archive{Number: segment.Number, Segment: segment}
	for len(rows) > 0 {
		n := min(len(rows), evictBatch)
		for _, j := range rows[:n] {
			cmd.Jobs = append(cmd.Jobs, &command.Archived{Job: j.ID[:], Index: j.Index})
		}
		if _, err := a.do(ctx, &command.Command{Op: &command.Command_Archive{Archive: cmd}}); err != nil {
			return fmt.Errorf("cannot move jobs to the archive: %w", err)
		}
		rows, cmd = rows[n:], &command.Archive{Number: segment.Number}
	}
	return nil
}

// save writes a segment to the blob store, with the number that follows the
// view's newest.
func (a *archiver) save(ctx context.Context, view *state.View, w *archive.Writer) (*command.Segment, error) {
	file, segment := w.Finish(view.Meta().Segment + 1)
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	digest := blob.Digest(segment.Sha256)
	if _, _, err := a.blobs.Put(ctx, bytes.NewReader(file), &digest, int64(len(file))); err != nil {
		return nil, fmt.Errorf("cannot store an archive segment of %s: %w", protocol.FormatBytes(int64(len(file))), err)
	}
	return segment, nil
}

// merge makes one segment of several, so that a lookup has few to look into.
func (a *archiver) merge(ctx context.Context) error {
	for range maxMerges {
		view := a.store.View()
		group := archive.Mergeable(view.Segments(), a.nowMs(), a.archive.Damaged)
		if group == nil {
			return nil
		}
		w, err := archive.NewWriter()
		if err != nil {
			return err
		}
		if err := a.archive.Merge(ctx, group, w); err != nil {
			return fmt.Errorf("cannot merge archive segments: %w", err)
		}
		if w.Jobs() == 0 {
			return nil // all have expired; they are dropped next time
		}
		segment, err := a.save(ctx, view, w)
		if err != nil {
			return err
		}
		cmd := &command.Archive{Number: segment.Number, Segment: segment}
		for _, g := range group {
			cmd.Replaces = append(cmd.Replaces, g.Number)
		}
		if _, err := a.do(ctx, &command.Command{Op: &command.Command_Archive{Archive: cmd}}); err != nil {
			return fmt.Errorf("cannot merge archive segments: %w", err)
		}
	}
	return nil
}

// do proposes one command. A refusal is an error: only one leader archives, and
// it has just read the state.
func (a *archiver) do(ctx context.Context, c *command.Command) (command.Result, error) {
	r, err := a.propose(ctx, c)
	if err != nil {
		return command.Result{}, err
	}
	if r[0].Code != "" {
		return command.Result{}, protocol.NewError(r[0].Code, r[0].Message)
	}
	return r[0], nil
}
