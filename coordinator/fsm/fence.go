package fsm

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Fence copies a snapshot so that nothing of the time after it is accepted by
// whoever restores the copy: that time did not happen. Every lease is given
// back, every job's attempt is raised into an era of its own (state.NextEra),
// so that no agent holds a current one, and every agent's incarnation is raised
// by one, so that it must register anew. The rest is the same.
//
// The input is verified whole, but only at its end: on an error, which wraps
// ErrSnapshot or is that of a reader or writer, what was written must be thrown
// away.
func Fence(in io.Reader, out io.Writer) error {
	sealed := newSealReader(in)
	err := sealed.preamble()
	if err != nil {
		return fmt.Errorf("cannot fence snapshot: %w", err)
	}
	unpack, err := newUnpacker(sealed)
	if err != nil {
		return fmt.Errorf("cannot fence snapshot: %w", err)
	}
	defer unpack.Close()
	records := &recordReader{from: bufio.NewReaderSize(unpack, readBuffer)}
	err = write(out, func(w *recordWriter) {
		if err := fence(records, w); err != nil {
			w.err = err
		}
	})
	if err == nil {
		err = sealed.check()
	}
	if err != nil {
		return fmt.Errorf("cannot fence snapshot: %w", err)
	}
	return nil
}

func fence(r *recordReader, w *recordWriter) error {
	for r.last != typeTrailer && w.err == nil {
		kind, err := r.next()
		if err == nil {
			switch kind {
			case typeAgent:
				err = each(r, new(AgentRecord), func(m *AgentRecord) error { return fenceAgent(m, w) })
			case typeJob:
				err = each(r, new(JobRecord), func(m *JobRecord) error { return fenceJob(m, w) })
			default:
				w.raw(kind, r.buf.Bytes())
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	if w.err != nil {
		return w.err
	}
	if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the trailer", ErrSnapshot)
	}
	return nil
}

// fenceAgent makes the registered life of an agent an earlier one. Lives are
// ordered, so a registration that repeats it is refused, and the agent opens a
// new one.
func fenceAgent(m *AgentRecord, w *recordWriter) error {
	for i := len(m.GetIncarnation()) - 1; i >= 0; i-- {
		if m.Incarnation[i]++; m.Incarnation[i] != 0 {
			w.record(typeAgent, m)
			return nil
		}
	}
	return errors.New("an agent's incarnation cannot be raised")
}

func fenceJob(m *JobRecord, w *recordWriter) error {
	attempt, ok := state.NextEra(m.GetAttempt())
	if !ok {
		return errors.New("a job's attempt cannot be raised")
	}
	m.Attempt, m.Adoptable = attempt, false
	if m.GetLease() != nil {
		m.Lease, m.Status = nil, uint32(protocol.StatusQueued)
	}
	w.record(typeJob, m)
	return nil
}
