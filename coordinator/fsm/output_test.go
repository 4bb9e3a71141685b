package fsm

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const weekMs = 7 * 24 * 60 * 60 * 1000

// storing is a world at the level of stored outputs; quota 0 is no limit.
func storing(t testing.TB, quota int64) *world {
	w := ready(t)
	w.ok(setFeature(command.FeatureAPI))
	w.ok(&command.Command{Op: &command.Command_PutOrg{PutOrg: &command.PutOrg{Id: org1, Weight: 1, StorageQuota: quota}}})
	return w
}

func file(name string, b byte, size int64) *command.File {
	return &command.File{Name: name, Sha256: bytes.Repeat([]byte{b}, 32), Size: size}
}

func files(list ...*command.File) func(*command.Finish) {
	return func(f *command.Finish) { f.Files = list }
}

func output(b byte, size int64) func(*command.Finish) {
	return func(f *command.Finish) {
		f.Output = &command.Payload{Sha256: bytes.Repeat([]byte{b}, 32), Size: size}
	}
}

// runs submits a job and leases it.
func (w *world) runs(n int) {
	w.t.Helper()
	w.ok(submit(n))
	w.ok(lease(n, 0, 1, 1))
}

func (w *world) stores(want int64, jobs ...int) {
	w.t.Helper()
	if got := w.store.View().StoredBytes(org1); got != want {
		w.t.Fatalf("%d bytes are stored, want %d", got, want)
	}
	var got []protocol.JobID
	w.store.View().Stored(func(s *state.Stored) bool { got = append(got, s.Job); return true })
	var ids []protocol.JobID
	for _, n := range jobs {
		ids = append(ids, job(n))
	}
	if !slices.Equal(got, ids) {
		w.t.Fatalf("outputs of %v are stored, want %v", got, ids)
	}
	r, err := restored(w.t, w.persist())
	if err != nil {
		w.t.Fatal(err)
	}
	if r.store.View().StoredBytes(org1) != want || r.store.View().Digest() != w.store.View().Digest() || r.store.View().Bytes() != w.store.View().Bytes() {
		w.t.Fatal("a restored state has other outputs")
	}
}

func TestOutputsAreStoredForSevenDays(t *testing.T) {
	w := storing(t, 0)
	w.runs(1)
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, output(1, 100), files(file("a.pdf", 2, 40), file("b.pdf", 2, 40), file("c", 3, 1))))
	w.stores(141, 1) // equal bytes once
	o := w.job(1).Outcome
	if o.OutputsUntilMs != w.clock+weekMs || len(o.Files) != 3 || o.Files[0].Name != "a.pdf" || !w.store.View().HasStored(job(1), o.OutputsUntilMs) {
		t.Errorf("%+v", o)
	}
	expire := &command.Command{Op: &command.Command_ExpireOutputs{ExpireOutputs: &command.ExpireOutputs{}}}
	w.clock += weekMs - 1
	if w.store.View().StoredExpired(w.clock) {
		t.Error("expired too early")
	}
	w.again(expire)
	w.clock++
	if r := w.ok(expire); r.Count != 1 {
		t.Errorf("%+v", r)
	}
	w.stores(0)
	if o := w.job(1).Outcome; o.Output.Ref == nil || len(o.Files) != 3 {
		t.Error("the job forgot what it made")
	}
}

// TestOutputsOutliveTheRow: a job goes to the archive before its outputs end.
func TestOutputsOutliveTheRow(t *testing.T) {
	w := storing(t, 0)
	for n := 1; n <= 2; n++ {
		w.runs(n)
		w.ok(finish(n, 1, 1, 1, protocol.OutcomeCompleted, output(byte(n), 100)))
	}
	record := EncodeJob(w.job(1))
	w.ok(archive(&command.Archive{Number: 1, Segment: newSegment(1, 1, 2, 7, 50), Jobs: []*command.Archived{{Job: raw(job(1)), Index: w.job(1).Index}}}))
	w.stores(200, 1, 2)
	// Back in the table and run again, its outputs go with its outcome.
	w.ok(recall(1, record, 1))
	w.stores(200, 1, 2)
	w.ok(reopen(1, org1, 1))
	w.stores(100, 2)
}

func TestAnotherOutcomeReplacesOutputs(t *testing.T) {
	w := storing(t, 150)
	w.runs(1)
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeFailed, retryable, files(file("part", 1, 100))))
	w.stores(100, 1)
	w.clock += 5
	w.ok(lease(1, 1, 1, 1))
	// What it replaces does not count against the quota.
	w.ok(finish(1, 2, 1, 1, protocol.OutcomeFailed, retryable, files(file("part", 2, 120))))
	w.stores(120, 1)
	w.ok(cancel(1, org1))
	w.stores(0)
	if o := w.job(1).Outcome; o.Files != nil || o.OutputsUntilMs != 0 {
		t.Errorf("%+v", o)
	}
}

// TestQuotaIsExact: two that fit alone do not both fit.
func TestQuotaIsExact(t *testing.T) {
	w := storing(t, 150)
	for n := 1; n <= 4; n++ {
		w.runs(n)
	}
	got := w.do(finish(1, 1, 1, 1, protocol.OutcomeCompleted, output(1, 100)), finish(2, 1, 1, 1, protocol.OutcomeCompleted, retryable, output(2, 51), files(file("x", 3, 1))))
	if got[0].Code != "" || got[1].Code != "" {
		t.Fatalf("%+v", got)
	}
	w.stores(100, 1)
	j := w.job(2)
	var details map[string]any
	if err := json.Unmarshal(j.Outcome.ErrDetails, &details); err != nil {
		t.Fatal(err)
	}
	if j.Status != protocol.StatusFailed || j.Outcome.ErrCode != protocol.CodeStorageLimit || j.Outcome.Output.Ref != nil || j.Outcome.Files != nil ||
		details["estimatedSizeBytes"] != 52.0 || details["remainingQuotaBytes"] != 50.0 || details["remainingQuota"] != "50B" {
		t.Errorf("%s: %+v %v", j.Status, j.Outcome, details)
	}
	w.again(finish(2, 1, 1, 1, protocol.OutcomeCompleted, retryable, output(2, 51), files(file("x", 3, 1))))
	w.ok(finish(3, 1, 1, 1, protocol.OutcomeCompleted, output(2, 50)))
	w.stores(150, 1, 3)
	// One that failed keeps its own error, without what it made.
	w.ok(finish(4, 1, 1, 1, protocol.OutcomeFailed, files(file("part", 5, 1)), func(f *command.Finish) { f.ErrorCode = "X" }))
	if o := w.job(4).Outcome; o.ErrCode != "X" || o.Files != nil {
		t.Errorf("%+v", o)
	}
	w.stores(150, 1, 3)
	// A submit whose output is not expected to fit is refused, and binds nothing.
	expected := func(n int64) func(*command.Submit) { return func(s *command.Submit) { s.ExpectedOutput = n } }
	if r := w.refused(submit(9, expected(1), withKey("k", 1)), protocol.CodeStorageLimit); r.Count != 0 {
		t.Errorf("%+v", r)
	}
	w.ok(submit(9, withKey("k", 1)))
	if r := w.again(submit(10, expected(1), withKey("k", 1))); r.Job != job(9) {
		t.Errorf("a repeated submit was answered %+v", r)
	}
}

func TestOutputsBelowTheLevelAreAsBefore(t *testing.T) {
	w := ready(t)
	w.runs(1)
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, output(1, 100)))
	w.stores(0)
	if o := w.job(1).Outcome; o.OutputsUntilMs != 0 || o.Output.Ref == nil {
		t.Errorf("%+v", o)
	}
}

func TestSecretIsSetOnce(t *testing.T) {
	w := storing(t, 0)
	put := func(b byte) *command.Command {
		return &command.Command{Op: &command.Command_PutClusterSecret{PutClusterSecret: &command.PutClusterSecret{Secret: bytes.Repeat([]byte{b}, 32)}}}
	}
	before := w.store.View().Digest()
	w.ok(put(1))
	w.again(put(2))
	r, err := restored(t, w.persist())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*world{w, r} {
		if got := x.store.View().Meta().Secret; got != [32]byte(bytes.Repeat([]byte{1}, 32)) || x.store.View().Digest() == before {
			t.Errorf("the secret is %x", got)
		}
	}
}
