package fsm

import (
	"slices"
	"strings"
	"testing"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func withCallback(s *command.Submit) {
	s.CallbackUrl, s.CallbackBase = "https://example.com/hook", "https://windlass.example.com"
}

// hooking is a world at the level that sends webhooks.
func hooking(t testing.TB) *world {
	w := ready(t)
	w.ok(setFeature(command.FeatureAPI))
	return w
}

// TestEveryEndBeginsItsWebhook: the command that ends a job begins the delivery,
// whichever it is (I14: no omission).
func TestEveryEndBeginsItsWebhook(t *testing.T) {
	leased := func(w *world, n int) { w.ok(lease(n, 0, 1, 1)) }
	for name, end := range map[string]func(w *world, n int){
		"completed": func(w *world, n int) { leased(w, n); w.ok(finish(n, 1, 1, 1, protocol.OutcomeCompleted)) },
		"failed":    func(w *world, n int) { leased(w, n); w.ok(finish(n, 1, 1, 1, protocol.OutcomeFailed)) },
		"timeout":   func(w *world, n int) { leased(w, n); w.ok(finish(n, 1, 1, 1, protocol.OutcomeTimeout)) },
		"cancelled by its agent": func(w *world, n int) {
			leased(w, n)
			w.ok(finish(n, 1, 1, 1, protocol.OutcomeCancelled))
		},
		"cancelled waiting": func(w *world, n int) { w.ok(cancel(n, org1)) },
		"purged":            func(w *world, n int) { w.ok(purge("p", org1, ep1, n)) },
		"cancelled running": func(w *world, n int) { leased(w, n); w.ok(cancel(n, org1)) },
		"expired": func(w *world, n int) {
			w.clock += 3_600_000
			w.ok(expire(n))
		},
		"lost": func(w *world, n int) {
			leased(w, n)
			w.ok(release(n, 1, 1, 1, command.Release_LOST))
			w.ok(lease(n, 1, 1, 1))
			w.ok(release(n, 2, 1, 1, command.Release_LOST))
		},
		"lost by a new life": func(w *world, n int) {
			leased(w, n)
			w.ok(register(1, 2))
			w.ok(lease(n, 1, 1, 2))
			w.ok(register(1, 3))
		},
	} {
		w := hooking(t)
		w.ok(submit(1, withCallback))
		w.clock += 77
		end(w, 1)
		j := w.job(1)
		if j.Live() {
			t.Fatalf("%s: the job is %s", name, j.Status)
		}
		want := state.Delivery{State: protocol.DeliveryPending, Index: j.Index, NextMs: w.clock, SinceMs: w.clock}
		if d := j.Webhook(); d == nil || d.State != want.State || d.Index != want.Index || d.NextMs != want.NextMs || d.SinceMs != want.SinceMs || d.Attempt != 0 {
			t.Errorf("%s: the delivery is %+v, want %+v", name, d, want)
		}
		if w.store.View().Owed() != 1 {
			t.Errorf("%s: %d are owed, want 1", name, w.store.View().Owed())
		}
		w = hooking(t)
		w.ok(submit(1))
		end(w, 1)
		if d := w.job(1).Webhook(); d != nil {
			t.Errorf("%s: a job without a callback has the delivery %+v", name, d)
		}
	}
}

// TestOldLevelsBeginNoWebhook: a coordinator of the version before would not
// make the same row.
func TestOldLevelsBeginNoWebhook(t *testing.T) {
	w := ready(t)
	w.ok(submit(1, withCallback))
	w.ok(cancel(1, org1))
	if d := w.job(1).Webhook(); d != nil {
		t.Fatalf("the delivery is %+v, want none", d)
	}
	w.ok(setFeature(command.FeatureAPI))
	w.ok(redeliver(1, org1, 0))
	if d := w.job(1).Webhook(); d == nil || d.State != protocol.DeliveryPending || w.job(1).Revised() == w.job(1).Index {
		t.Errorf("the delivery is %+v", d)
	}
}

func TestDeliveryIsRecordedOnce(t *testing.T) {
	w := hooking(t)
	w.ok(submit(1, withCallback))
	w.refused(recordDelivery(1, 1, 1, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	w.ok(cancel(1, org1))
	ended := w.job(1).Index
	w.refused(recordDelivery(9, 1, 1, command.RecordDelivery_DELIVERED), protocol.CodeJobNotFound)
	w.refused(recordDelivery(1, 1, 2, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	w.refused(recordDelivery(1, 2, 1, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	failed := recordDelivery(1, 1, 1, command.RecordDelivery_RETRY, func(r *command.RecordDelivery) { r.Status, r.Error, r.Answer = 500, "e", "a" })
	w.ok(failed)
	w.again(failed)
	w.refused(recordDelivery(1, 1, 1, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	j := w.job(1)
	want := state.DeliveryAttempt{Attempt: 1, Status: 500, StartedMs: 5, LatencyMs: 7, Error: "e", Answer: "a"}
	if d := j.Webhook(); d.Attempt != 1 || d.Tries != 1 || d.NextMs != 1_200_000 || !slices.Equal(d.Log, []state.DeliveryAttempt{want}) {
		t.Errorf("the delivery is %+v", d)
	}
	if j.Index == ended || j.Revised() != ended {
		t.Errorf("the row is of %d and revised at %d, the job ended at %d", j.Index, j.Revised(), ended)
	}
	w.ok(recordDelivery(1, 1, 2, command.RecordDelivery_DELIVERED))
	w.refused(recordDelivery(1, 1, 3, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	if d := w.job(1).Webhook(); d.State != protocol.DeliveryDelivered || d.NextMs != 0 || w.store.View().Owed() != 0 {
		t.Errorf("the delivery is %+v, %d are owed", d, w.store.View().Owed())
	}
}

func TestOwedRowsStay(t *testing.T) {
	w := hooking(t)
	w.ok(submit(1, withCallback))
	w.ok(cancel(1, org1))
	w.again(evict(1))
	w.ok(archive(&command.Archive{
		Number: 1, Segment: newSegment(1, 1, 1, 7, 50), Jobs: []*command.Archived{{Job: raw(job(1)), Index: w.job(1).Index}},
	}))
	w.job(1)
	w.ok(recordDelivery(1, 1, 1, command.RecordDelivery_FAILED))
	w.ok(evict(1))
	if w.store.Job(job(1)) != nil {
		t.Error("the row is still there after its webhook failed for good")
	}
}

// TestNewRunForgetsTheWebhook: the job has not ended any more; the end of the new
// run has a webhook of its own.
func TestNewRunForgetsTheWebhook(t *testing.T) {
	w := hooking(t)
	w.ok(submit(1, withCallback))
	w.ok(cancel(1, org1))
	w.ok(recordDelivery(1, 1, 1, command.RecordDelivery_RETRY))
	w.ok(reopen(1, org1, 1))
	w.refused(recordDelivery(1, 1, 2, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	w.refused(redeliver(1, org1, 1), protocol.CodeConflict)
	w.ok(cancel(1, org1))
	w.refused(recordDelivery(1, 1, 2, command.RecordDelivery_DELIVERED), protocol.CodeConflict)
	w.ok(recordDelivery(1, 2, 1, command.RecordDelivery_DELIVERED))
}

func TestRedeliverBeginsAnew(t *testing.T) {
	w := hooking(t)
	w.ok(submit(1, withCallback))
	w.ok(submit(2))
	w.ok(cancel(1, org1))
	w.ok(cancel(2, org1))
	w.again(redeliver(1, org1, 0)) // it is due already
	for n := uint32(1); n <= 12; n++ {
		if n == 6 {
			w.refused(recordDelivery(1, 1, n, command.RecordDelivery_RETRY), protocol.CodeConflict)
			w.refused(redeliver(1, org1, 4), protocol.CodeConflict)
			w.refused(redeliver(1, org2, 5), protocol.CodeJobNotFound)
			w.clock += 1000
			w.ok(redeliver(1, org1, 5))
			w.again(redeliver(1, org1, 5))
			if d := w.job(1).Webhook(); d.State != protocol.DeliveryPending || d.Tries != 0 || d.Attempt != 5 || d.NextMs != w.clock {
				t.Errorf("the delivery is %+v", d)
			}
		}
		outcome := command.RecordDelivery_RETRY
		if n == 5 {
			outcome = command.RecordDelivery_FAILED
		}
		w.ok(recordDelivery(1, 1, n, outcome))
	}
	if d := w.job(1).Webhook(); len(d.Log) != protocol.WebhookLog || d.Log[0].Attempt != 3 || d.Attempt != 12 {
		t.Errorf("the log has %d attempts from %d on", len(d.Log), d.Log[0].Attempt)
	}
	w.refused(redeliver(2, org1, 0), protocol.CodeConflict)
	w.refused(redeliver(3, org1, 0), protocol.CodeJobNotFound)
}

// TestAnswersGiveWayToMemory: what receivers answer comes from outside, and a
// delivery is recorded however full memory is.
func TestAnswersGiveWayToMemory(t *testing.T) {
	w := hooking(t)
	w.ok(submit(1, withCallback))
	w.ok(cancel(1, org1))
	w.ok(putSettings(w.store.View().Bytes() + 100))
	answer := func(r *command.RecordDelivery) { r.Answer = strings.Repeat("x", 1000) }
	w.ok(recordDelivery(1, 1, 1, command.RecordDelivery_RETRY, answer))
	w.ok(recordDelivery(1, 1, 2, command.RecordDelivery_RETRY, answer))
	if log := w.job(1).Webhook().Log; len(log[0].Answer) != 1000 || log[1].Answer != "" {
		t.Errorf("answers of %d and %d bytes are kept, want the first", len(log[0].Answer), len(log[1].Answer))
	}
}

func TestSecretsRotate(t *testing.T) {
	w := hooking(t)
	automatic := func(p *command.PutWebhookSecret) { p.Automatic = true }
	rotate := func(p *command.PutWebhookSecret) { p.Rotate, p.OverlapMs = true, 1000 }
	live := func(want ...int) {
		t.Helper()
		var got []int
		for _, s := range w.store.View().WebhookSecrets(org1).Live(w.clock) {
			got = append(got, int(s.ID[15]))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("secrets %v live, want %v", got, want)
		}
	}
	w.ok(putSecret(1, org1, automatic))
	w.again(putSecret(1, org1, automatic))
	w.refused(putSecret(2, org1, automatic), protocol.CodeConflict)
	w.ok(putSecret(2, org1)) // nobody knows the automatic one
	live(2)
	w.refused(putSecret(3, org1), protocol.CodeConflict)
	w.refused(putSecret(3, org1, automatic), protocol.CodeConflict)
	w.ok(putSecret(3, org1, rotate))
	w.again(putSecret(3, org1, rotate))
	live(2, 3)
	w.refused(putSecret(4, org1, rotate), protocol.CodeConflict)
	w.clock += 1000
	live(3)
	w.ok(putSecret(4, org1, rotate))
	live(3, 4)
	w.ok(dropSecret(3, org1))
	w.again(dropSecret(3, org1))
	live(4)
	w.ok(dropSecret(4, org1))
	if s := w.store.View().WebhookSecrets(org1); s != nil {
		t.Errorf("the row is %+v, want none", s)
	}
	w.again(dropSecret(4, org1))
}

func TestDeletedOrganisationSignsNothing(t *testing.T) {
	w := hooking(t)
	w.ok(putOrg("org_gone"))
	w.ok(putSecret(1, "org_gone"))
	w.ok(deleteOrg("org_gone"))
	if s := w.store.View().WebhookSecrets("org_gone"); s != nil {
		t.Errorf("the secrets are %+v, want none", s)
	}
	w.refused(putSecret(2, "org_gone"), protocol.CodeOrgNotFound)
}
