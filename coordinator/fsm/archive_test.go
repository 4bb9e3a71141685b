package fsm

import (
	"bytes"
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// archived returns a world whose jobs 1 to 3 ended, 3 with a key, and the rows as
// an Archive names them.
func archived(t testing.TB) (*world, []*command.Archived) {
	w := ready(t)
	var rows []*command.Archived
	for n := 1; n <= 3; n++ {
		if n == 3 {
			w.clock += 7 // the id says nothing of when the FSM saw the job
		}
		w.ok(submit(n, func(s *command.Submit) {
			if n == 3 {
				withKey("k", 1)(s)
			}
		}))
		w.ok(cancel(n, org1))
		rows = append(rows, &command.Archived{Job: raw(job(n)), Index: w.job(n).Index})
	}
	return w, rows
}

func TestArchiveRemovesOnlyWhatIsInTheSegment(t *testing.T) {
	w, rows := archived(t)
	record := EncodeJob(w.job(2))
	w.ok(reopen(2, org1, 1)) // after it was written to the segment
	w.ok(submit(4))
	rows = append(rows, &command.Archived{Job: raw(job(4)), Index: w.job(4).Index}, &command.Archived{Job: raw(job(9)), Index: 1})
	if r := w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 2, 7, 50), Jobs: rows})); r.Count != 1 {
		t.Errorf("%d rows left, want job 1 alone: 2 runs again, 3 is outside of the segment, 4 waits", r.Count)
	}
	for n, there := range map[int]bool{1: false, 2: true, 3: true, 4: true} {
		if (w.store.Job(job(n)) != nil) != there {
			t.Errorf("job %d is there: %t", n, !there)
		}
	}
	w.again(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 2, 7, 50), Jobs: rows}))
	// The row of the table stays, whatever an older record says.
	if r := w.again(recall(2, record, 1)); r.Code != "" || w.job(2).Run != 2 {
		t.Errorf("recalled over a row: %+v", r)
	}
}

func TestArchiveLeavesARowThatChanged(t *testing.T) {
	w, rows := archived(t)
	w.ok(reopen(1, org1, 1))
	w.ok(cancel(1, org1))
	if r := w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 7, 50), Jobs: rows[:2]})); r.Count != 1 || w.job(1).Run != 2 {
		t.Errorf("%d rows left, want job 2 alone: the segment has the first run of job 1", r.Count)
	}
}

func TestSegmentsHaveOneOrder(t *testing.T) {
	w, rows := archived(t)
	w.refused(archive(&command.Archive{Number: 1, Jobs: rows}), protocol.CodeConflict)
	w.refused(archive(&command.Archive{Number: 2, Segment: newSegment(2, 1, 3, 7, 50)}), protocol.CodeConflict)
	for n := uint64(1); n <= 3; n++ {
		w.ok(archive(&command.Archive{Number: n, Segment: newSegment(n, 1, 3, byte(n), int64(n)*10)}))
	}
	other, _ := archived(t)
	other.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10)}))
	other.ok(dropSegment(20, 1))
	other.refused(archive(&command.Archive{Number: 2, Segment: newSegment(2, 1, 3, 2, 50), Replaces: []uint64{1}}), protocol.CodeConflict)
	w.refused(archive(&command.Archive{Number: 3, Segment: newSegment(3, 1, 3, 9, 50)}), protocol.CodeConflict)
	merge := archive(&command.Archive{Number: 4, Segment: newSegment(4, 1, 3, 4, 50), Replaces: []uint64{1, 2, 1}})
	w.ok(merge)
	w.again(merge)
	if list := w.store.View().Segments(); len(list) != 2 || list[0].Number != 3 || list[1].Number != 4 {
		t.Errorf("segments are %+v", list)
	}
	// A repetition that comes when its segment is gone records nothing.
	w.refused(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10), Jobs: rows}), protocol.CodeConflict)
	w.refused(archive(&command.Archive{Number: 1, Jobs: rows}), protocol.CodeConflict)
	if r := w.ok(archive(&command.Archive{Number: 4, Jobs: rows})); r.Count != 3 {
		t.Errorf("%d rows left, want 3", r.Count)
	}
}

func TestDropSegmentKeepsWhatHoldsYoungerJobs(t *testing.T) {
	w, _ := archived(t)
	w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10)}))
	w.ok(archive(&command.Archive{Number: 2, Segment: newSegment(2, 1, 3, 2, 20)}))
	if r := w.ok(dropSegment(20, 1, 2, 3)); r.Count != 1 || len(w.store.View().Segments()) != 1 {
		t.Errorf("%d segments dropped, %+v are left", r.Count, w.store.View().Segments())
	}
	w.again(dropSegment(20, 1, 2, 3))
	if w.store.View().Meta().Segment != 2 {
		t.Error("the numbers began again")
	}
}

func TestRecallBringsTheRowBackAsItWas(t *testing.T) {
	w, rows := archived(t)
	record, digest := EncodeJob(w.job(3)), w.store.View().Digest()
	w.refused(recall(7, record, 0), protocol.CodeJobNotFound)
	w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10), Jobs: rows[2:]}))
	w.refused(recall(3, EncodeJob(w.job(2)), 1), protocol.CodeValidation)
	w.refused(recall(3, []byte("x"), 1), protocol.CodeValidation)
	w.refused(recall(3, record, 0), protocol.CodeConflict)
	bytesBefore := w.store.View().Bytes()
	w.ok(recall(3, record, 1))
	w.again(recall(3, record, 1))
	if !bytes.Equal(EncodeJob(w.job(3)), record) {
		t.Error("the row is not what it was")
	}
	if w.store.View().Bytes() <= bytesBefore || w.store.View().Digest() == digest {
		t.Error("the recalled row is not counted, or the segment is gone")
	}
	if r := w.ok(reopen(3, org1, 1)); r.Run != 2 || w.job(3).Status != protocol.StatusQueued {
		t.Errorf("reopened: %+v", r)
	}
	// It ends again and is archived again: the older record must not come back.
	w.ok(cancel(3, org1))
	w.ok(archive(&command.Archive{Number: 2, Segment: newSegment(2, 3, 3, 2, 20), Jobs: []*command.Archived{{Job: raw(job(3)), Index: w.job(3).Index}}}))
	w.refused(recall(3, record, 1), protocol.CodeConflict)
}

func TestRecallRespectsTheMemoryLimit(t *testing.T) {
	w, rows := archived(t)
	record := EncodeJob(w.job(1))
	w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10), Jobs: rows[:1]}))
	w.ok(putSettings(w.store.View().Bytes() + 10))
	if r := w.refused(recall(1, record, 1), protocol.CodeQueueFull); r.Limit != "memory" {
		t.Errorf("refused with %+v", r)
	}
}

// TestKeysSurviveArchiving: the same answer as before, until the key expires.
func TestKeysSurviveArchiving(t *testing.T) {
	w, rows := archived(t)
	again := submit(8, withKey("k", 1))
	before := w.ok(again)
	w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 3, 1, 10), Jobs: rows}))
	after := w.ok(again)
	before.Index, after.Index = 0, 0
	if before.Job != job(3) || before.CreatedMs != after.CreatedMs || before.Job != after.Job || !after.Replayed {
		t.Errorf("answered %+v, and when it was archived %+v", before, after)
	}
	w.refused(submit(8, withKey("k", 2)), protocol.CodeIdempotencyReused)
	r, err := restored(t, w.persist())
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ok(again); got.CreatedMs != before.CreatedMs || got.Job != before.Job {
		t.Errorf("answered %+v after a snapshot", got)
	}
	w.clock += keyTermMs
	if got := w.ok(again); got.Job != job(8) || got.Replayed {
		t.Errorf("an expired key answered %+v", got)
	}
}
