package api

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// streamHold is how long a classic stream waits for something to say: below the
	// ten seconds after which the Python client gives up.
	streamHold = 8 * time.Second
	// streamPage bounds the chunks of one answer: two of the largest size and more
	// tokens than a reader takes in a second.
	streamPage = 4 << 20
	// maxDrains bounds the jobs whose readers are remembered, twice over. Of one
	// that is forgotten all chunks come again.
	maxDrains = 50_000
)

// drains remember what the readers of classic streams were given. They are the
// leader's: another leader knows nothing of them and gives everything again.
type drains struct {
	mu    sync.Mutex
	young map[protocol.JobID]*drain
	old   map[protocol.JobID]*drain // filled before young; dropped when that is full
}

// drain is one job's. All its readers share it: each chunk goes to one of them.
type drain struct {
	mu     sync.Mutex
	at     position
	before position // before the newest answer
	turn   string   // of the newest answer; "" when nobody relayed it
}

// position is how far an attempt was read.
type position struct {
	run     uint32
	attempt uint32
	next    uint64 // chunk
	done    bool   // the end of the run was told
}

func (d *drains) of(job protocol.JobID) *drain {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.young[job]; known != nil {
		return known
	}
	if d.young == nil || len(d.young) >= maxDrains {
		d.old, d.young = d.young, make(map[protocol.JobID]*drain)
	}
	known := d.old[job]
	if known == nil {
		known = &drain{}
	}
	d.young[job] = known
	return known
}

// streaming is one held read of a classic stream.
type streaming struct {
	s         *Server
	operation string
	id        string // of the request
	job       protocol.JobID
	end       time.Time
	out       *outgoing // to the leader, when this node leads no more
	relayed   bool
	turn      string
}

// classicStream is GET and POST /v2/{endpointId}/stream/{id}: what the handler
// yielded since the answer before, as soon as there is something, or when the
// state changed, or after streamHold. The leader answers, which knows who was
// given what.
func (s *Server) classicStream(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	end, err := c.waitEnd(streamHold, streamHold)
	if err != nil {
		return err
	}
	if !c.relayed {
		c.turn = protocol.NewRequestID(c.began).String()
	}
	if !s.leads() {
		return errElsewhere
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	w := &streaming{
		s: s, operation: c.route.operation, id: c.id, job: row.ID, end: end, relayed: c.relayed,
		out: c.outgoing(string(c.ctx.Request.Header.RequestURI())),
	}
	if c.relayed {
		w.turn = c.header(protocol.HeaderRelayTurn)
	}
	return c.hold(w.run)
}

func (w *streaming) run(ctx context.Context) reply {
	ctx, cancel := context.WithDeadline(ctx, w.end.Add(classicGrace))
	defer cancel()
	doc, lost, err := w.here(ctx)
	if err == nil && lost {
		if !w.relayed {
			var r reply
			if r, err = w.s.relay(ctx, w.out); err == nil {
				return r
			}
		} else {
			err = noLeader(protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead any more").With("outcome", "none"))
		}
	}
	return w.s.answer(w.operation, w.id, doc, err)
}

// here waits until there is something to say.
func (w *streaming) here(ctx context.Context) (doc *protocol.ClassicStream, lost bool, err error) {
	lead, leads := w.s.deps.Cluster.Leads()
	if !leads {
		return nil, true, nil
	}
	sub := w.s.deps.Board.Subscribe(w.job)
	defer sub.Close()
	timer := time.NewTimer(time.Until(w.end))
	defer timer.Stop()
	d := w.s.drains.of(w.job)
	var first protocol.ClassicStatus // as it was when the request came
	for over := false; ; {
		row, err := w.s.find(ctx, w.s.deps.Store.View(), w.job)
		if err == nil && row == nil {
			err = jobNotFound(w.job.String())
		}
		if err != nil {
			return nil, false, err
		}
		doc, ready, err := w.s.drain(ctx, row, d, w.turn)
		if first == "" && err == nil {
			first = doc.Status
		}
		if err != nil || ready || over || doc.Status != first {
			return doc, false, err
		}
		select {
		case <-sub.C():
		case <-lead.Lost:
			return nil, true, nil
		case <-timer.C:
			over = true
		case <-ctx.Done():
			over = true
		}
	}
}

// drain takes the chunks that come next, at most a page, and says whether they are
// worth an answer at once. The final state is told with the last of them.
func (s *Server) drain(ctx context.Context, row *state.Job, d *drain, turn string) (*protocol.ClassicStream, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.at
	if turn != "" && d.turn == turn {
		at = d.before // its answer was lost on the way
	}
	if at.run != row.Run || at.attempt != row.Attempt {
		at = position{run: row.Run, attempt: row.Attempt}
	}
	before := at
	page, more, err := s.chunkPage(ctx, row, &at)
	if err != nil {
		return nil, false, err
	}
	doc := &protocol.ClassicStream{Status: s.shownStatus(row).Classic(), Stream: page}
	ended := row.Status.Terminal()
	switch {
	case ended && more:
		doc.Status = protocol.ClassicInProgress
	case ended:
		at.done = true
		if row.Status == protocol.StatusFailed || row.Status == protocol.StatusTimeout {
			doc.Error = classicError(row.Outcome)
		}
	}
	// A client that does not take CANCELLED for the end asks again and again.
	again := row.Status == protocol.StatusCancelled && before.done
	if ready := len(page) > 0 || ended && !again; !ready {
		return doc, false, nil
	}
	d.at, d.before, d.turn = at, before, turn
	return doc, true, nil
}

// chunkPage reads what follows the position and moves it. more says that the page
// is full. What the board has dropped cannot be passed over: the rest comes from
// the result, in order.
func (s *Server) chunkPage(ctx context.Context, row *state.Job, at *position) (page []protocol.ClassicChunk, more bool, err error) {
	page, size := []protocol.ClassicChunk{}, 0
	add := func(n uint64, chunk json.RawMessage) bool {
		if n != at.next || len(page) > 0 && size+len(chunk) > streamPage {
			more = true
			return false
		}
		page = append(page, protocol.ClassicChunk{Output: chunk})
		size += len(chunk)
		at.next++
		return true
	}
	if row.Lease != nil {
		for _, item := range s.deps.Board.Chunks(row.ID, row.Attempt, at.next) {
			if !add(item.N, item.Value) {
				break
			}
		}
		return page, more, nil
	}
	if out := row.Outcome; out == nil || out.Attempt != row.Attempt || at.done {
		return page, false, nil
	}
	var all []json.RawMessage
	if err := s.readDetail(ctx, row.Outcome.Chunks, &all); err != nil {
		return nil, false, fmt.Errorf("cannot read the chunks of job %s: %w", row.ID, err)
	}
	for n := at.next; n < uint64(len(all)); n++ {
		if !add(n, all[n]) {
			break
		}
	}
	return page, more, nil
}
