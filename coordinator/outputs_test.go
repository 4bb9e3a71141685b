package coordinator

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/protocol"
)

// completed runs a job whose output and files have the given digests.
func (h *history) completed(digests ...byte) protocol.JobID {
	h.t.Helper()
	id, agent, life := h.submit(`{}`), bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)
	h.do(&command.Command{Op: &command.Command_Register{Register: &command.Register{Agent: agent, Incarnation: life, Org: protocol.OrgDefault, Facts: []byte(`{}`)}}})
	h.do(&command.Command{Op: &command.Command_Lease{Lease: &command.Lease{Job: id[:], Agent: agent, Incarnation: life, Revision: 1}}})
	f := &command.Finish{Job: id[:], Attempt: 1, Agent: agent, Incarnation: life, Outcome: string(protocol.OutcomeCompleted)}
	f.Output = &command.Payload{Sha256: bytes.Repeat(digests[:1], 32), Size: 100}
	f.Logs = &command.Payload{Sha256: bytes.Repeat([]byte{200}, 32), Size: 5}
	for _, d := range digests[1:] {
		f.Files = append(f.Files, &command.File{Name: "f", Sha256: bytes.Repeat([]byte{d}, 32), Size: 10})
	}
	h.do(&command.Command{Op: &command.Command_Finish{Finish: f}})
	return id
}

// named is what the collector keeps.
func (h *history) named() map[byte]bool {
	h.t.Helper()
	all := make(map[byte]bool)
	name := func(d blob.Digest) { all[d[0]] = all[d[0]] || d == blob.Digest(bytes.Repeat(d[:1], 32)) }
	view := h.Store.View()
	if err := needed(h.t.Context(), view, name); err != nil {
		h.t.Fatal(err)
	}
	if err := h.Archive.References(h.t.Context(), view, name); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// TestStoredOutputsGoAfterSevenDays: in the archive as in memory, and before the
// job and its log.
func TestStoredOutputsGoAfterSevenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		end := h.begin()
		id := h.completed(1, 2, 3)
		pass(protocol.OutputTerm - time.Hour)
		if _, archived := h.record(id); !archived {
			t.Fatal("the job is not archived")
		}
		if now := h.named(); !now[1] || !now[2] || !now[3] || !now[200] || h.Store.View().StoredBytes(protocol.OrgDefault) != 120 {
			t.Errorf("after six days %v is kept", now)
		}
		pass(time.Hour + 2*maxArchivePeriod)
		if now := h.named(); now[1] || now[2] || now[3] || !now[200] || h.Store.View().StoredBytes(protocol.OrgDefault) != 0 {
			t.Errorf("after seven days %v is kept", now)
		}
		if record, _ := h.record(id); record == nil {
			t.Error("the job is gone with its outputs")
		}
		end()
	})
}
