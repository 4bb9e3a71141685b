package check

import (
	"slices"
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

func brokenSubmits() []spoiled {
	return []spoiled{
		{"an acknowledged job is not there at the end", "I1", "does not hold it", func(_ *testing.T, h *record.History) {
			h.Finals[1].Docs = h.Finals[1].Docs[1:]
		}},
		{"a read after the acknowledgement finds nothing", "I1", "did not know it", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, read(1, 9*second, 10*second, nil))
		}},
		{"a job that nobody submitted", "I2", "nobody submitted", func(_ *testing.T, h *record.History) {
			h.Finals[0].Docs = append(h.Finals[0].Docs, *doc(7, "completed", 1, 20))
		}},
		{"a run with other bytes", "I2", "other bytes", func(_ *testing.T, h *record.History) {
			h.Runs[0].Input = "changed"
		}},
		{"a refused submit is there", "I3", "was refused", func(_ *testing.T, h *record.History) {
			h.Finals[2].Docs = append(h.Finals[2].Docs, *doc(3, "completed", 1, 20))
		}},
		{"a refused submit runs", "I3", "it ran on", func(_ *testing.T, h *record.History) {
			h.Runs = append(h.Runs, run(3, "agent-1", record.EventStart, 9*second))
		}},
		{"a refused cancel has its effect", "I3", "every cancel", func(_ *testing.T, h *record.History) {
			h.Calls[5].Outcome, h.Calls[5].Doc = record.No, nil
		}},
		{"cancelled by nobody", "I3", "nobody cancelled", func(_ *testing.T, h *record.History) {
			h.Calls = slices.Delete(h.Calls, 5, 6)
		}},
		{"two jobs are answered for one key", "I4", "two jobs", func(_ *testing.T, h *record.History) {
			other := submit(1, 2*second, 3*second, record.OK)
			other.Job = job(9).String()
			h.Calls = append(h.Calls, other)
		}},
		{"two jobs are there for one key", "I4", "two jobs", func(_ *testing.T, h *record.History) {
			d := *doc(1, "completed", 1, 13)
			d.Job = job(9).String()
			h.Finals[0].Docs = append(h.Finals[0].Docs, d)
		}},
		{"the log binds one key twice", "I4", "for the key", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-1"), command.Result{Job: job(8)})
		}},
	}
}

func brokenLeases() []spoiled {
	return []spoiled{
		{"a job of a healthy agent starts twice", "I5", "nothing had happened", func(_ *testing.T, h *record.History) {
			h.Runs = append(h.Runs, run(1, "agent-2", record.EventStart, 9*second))
		}},
		{"a job is leased twice at once", "I5", "held it", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-8"), command.Result{Job: job(8)})
			add(t, h, 16, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
			add(t, h, 17, leaseCommand(8, 1, 2), command.Result{Attempt: 2})
		}},
		{"an attempt number comes again", "I5", "after attempt", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-8"), command.Result{Job: job(8)})
			add(t, h, 16, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
			add(t, h, 17, releaseCommand(8, 1, 1), command.Result{})
			add(t, h, 18, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
		}},
		{"a start without a lease", "I5", "leased there", func(_ *testing.T, h *record.History) {
			h.Runs[0].Agent = "agent-2"
		}},
		{"a late result is taken", "I6", "after its end", func(t *testing.T, h *record.History) {
			add(t, h, 15, finishCommand(1, 1, 1), command.Result{})
		}},
		{"a result of an old attempt is taken", "I6", "was current", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-8"), command.Result{Job: job(8)})
			add(t, h, 16, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
			add(t, h, 17, finishCommand(8, 1, 2), command.Result{})
		}},
		{"attempts without end", "I9", "7 times", func(_ *testing.T, h *record.History) {
			h.Lenient[1] = true
			for i := range 6 {
				h.Runs = append(h.Runs, run(1, "agent-1", record.EventStart, int64(9+i)*second))
			}
		}},
	}
}

func brokenEnds() []spoiled {
	return []spoiled{
		{"a job is stuck", "I7", "although nothing was broken", func(_ *testing.T, h *record.History) {
			for i := range h.Finals {
				h.Finals[i].Docs[1] = *doc(2, "queued", 0, 14)
			}
			h.Calls[5] = cancel(2, 3*second, 4*second, record.Maybe, nil)
		}},
		{"a sound task fails", "I7", "failed", func(_ *testing.T, h *record.History) {
			for i := range h.Finals {
				h.Finals[i].Docs[0] = *doc(1, "failed", 1, 13)
			}
			h.Calls[3].Doc = doc(1, "failed", 1, 13)
		}},
		{"two ends for two observers", "I8", "ended", func(_ *testing.T, h *record.History) {
			h.Finals[2].Docs[0] = *doc(1, "cancelled", 1, 13)
		}},
		{"the output of another task", "I8", "something else", func(_ *testing.T, h *record.History) {
			h.Calls[3].Doc.Output = Answer(2)
			for i := range h.Finals {
				h.Finals[i].Docs[0].Output = Answer(2)
			}
		}},
		{"a lease after the end", "I8", "although it had ended", func(t *testing.T, h *record.History) {
			add(t, h, 15, leaseCommand(1, 1, 1), command.Result{Attempt: 2})
		}},
		{"a start after the cancel", "I11", "started on", func(_ *testing.T, h *record.History) {
			h.Runs = append(h.Runs, run(2, "agent-1", record.EventStart, 16*second))
		}},
		{"a run goes on after its cancel", "I11", "still running", func(_ *testing.T, h *record.History) {
			h.Runs = append(h.Runs, run(2, "agent-1", record.EventStart, 2*second), run(2, "agent-1", record.EventResult, 30*second))
		}},
		{"a job times out early", "I12", "timed out", func(_ *testing.T, h *record.History) {
			for i := range h.Finals {
				h.Finals[i].Docs[0] = *doc(1, "timeout", 1, 13)
			}
			h.Calls[3].Doc = doc(1, "timeout", 1, 13)
		}},
		{"a running job expires", "I12", "expire while", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-8"), command.Result{Job: job(8)})
			add(t, h, 16, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
			add(t, h, 17, &command.Command{Op: &command.Command_ExpireTtl{ExpireTtl: &command.ExpireTTL{Job: jobBytes(8)}}}, command.Result{})
		}},
	}
}

func brokenReads() []spoiled {
	return []spoiled{
		{"a read of the past", "I13", "had seen it further", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, read(1, 9*second, 10*second, doc(1, "queued", 0, 10)))
		}},
		{"a read of an older index", "I13", "at index", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, read(1, 9*second, 10*second, doc(1, "running", 1, 11)))
		}},
		{"a read before the handler's start", "I13", "the handler", func(_ *testing.T, h *record.History) {
			h.Calls[2].Doc = doc(1, "queued", 0, 10)
		}},
		{"a stream that goes back", "I13", "went back", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, watch(1, 10*second, doc(1, "running", 1, 11)))
		}},
		{"a read behind a stream", "I13", "had seen it further", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, read(1, 9*second+1, 10*second, doc(1, "queued", 0, 12)))
		}},
		{"answers without an order", "I13", "no order", func(_ *testing.T, h *record.History) {
			h.Calls[5].Doc = nil
			h.Calls = append(h.Calls, read(2, 10*second, 11*second, doc(2, "completed", 0, 14)))
		}},
		{"more wait than may", "I16", "where 2 may", func(t *testing.T, h *record.History) {
			for n := range 3 {
				add(t, h, uint64(15+n), submitCommand(20+n, ""), command.Result{Job: job(20 + n)})
			}
		}},
	}
}

func brokenNodes() []spoiled {
	return []spoiled{
		{"two digests at one index", "I17", "differ", func(_ *testing.T, h *record.History) {
			h.Finals[2].Digest = "other"
		}},
		{"two entries at one index", "I17", "different entries", func(t *testing.T, h *record.History) {
			h.Applied = append(h.Applied, applied(t, "c3", 10, submitCommand(9, "task-1"), command.Result{Job: job(9)}))
		}},
		{"two results of one entry", "I17", "different results", func(t *testing.T, h *record.History) {
			h.Applied = append(h.Applied, applied(t, "c3", 10, submitCommand(1, "task-1"), command.Result{Code: protocol.CodeQueueFull}))
		}},
		{"a coordinator lives on with a failed disk", "I18", "did not end", func(_ *testing.T, h *record.History) {
			h.Faults = append(h.Faults, record.Fault{Name: "fsync-eio", Target: []string{"c1"}, At: second, Exit: "c1"})
		}},
		{"a coordinator ends by itself", "I20", "nothing had been done", func(_ *testing.T, h *record.History) {
			h.Exits = append(h.Exits, record.Exit{Node: "c3", At: 5 * second})
		}},
		{"a damaged entry is applied", "I19", "damaged", func(_ *testing.T, h *record.History) {
			for i := range h.Applied {
				if h.Applied[i].Index == 12 {
					h.Applied[i].Data[len(h.Applied[i].Data)/2] ^= 1
				}
			}
		}},
		{"nobody can submit for too long", "I20", "more than", func(_ *testing.T, h *record.History) {
			h.Faults[0].Limit = second
		}},
		{"nobody can submit any more", "I20", "no submit succeeded", func(_ *testing.T, h *record.History) {
			h.Faults[0].At = 100 * second
		}},
		{"a healthy agent loses a lease", "I20", "as lost", func(t *testing.T, h *record.History) {
			add(t, h, 15, submitCommand(8, "task-8"), command.Result{Job: job(8)})
			add(t, h, 16, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
			add(t, h, 17, releaseCommand(8, 1, 1), command.Result{})
		}},
	}
}
