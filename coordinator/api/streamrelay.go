package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/board"
	"windlass/protocol"
)

const (
	// streamSilence is how long the leader's stream may say nothing: three of its
	// comments.
	streamSilence = 3 * commentEvery
	// streamBuffer is what a relayed stream reads at a time; eventKept is the
	// largest event whose memory is kept for the next one.
	streamBuffer = 4 << 10
	eventKept    = 64 << 10
)

// source is the leader's event stream of one job.
type source struct {
	*line
	br *bufio.Reader
}

// begin opens the leader's stream behind what the reader has seen. An answer
// that is no stream is returned as it is. ctx bounds the search for a leader.
func (st *stream) begin(ctx context.Context, begun bool) (*source, reply, error) {
	out := &outgoing{head: st.head}
	if !st.seen.IsZero() {
		out.head = append(bytes.Clone(st.head), protocol.HeaderLastEventID+": "+st.seen.String()+"\r\n"...)
	}
	seek := st.s.deps.Cluster.Seek()
	for {
		leader, err := seek.Turn(ctx, begun)
		if err != nil {
			return nil, reply{}, uncertainRead(err)
		}
		if _, leads := st.s.deps.Cluster.Leads(); leads {
			return nil, reply{}, errHere
		}
		src, r, err := st.open(ctx, leader, out)
		if err == nil && (src != nil || !notLeading(r)) {
			return src, r, nil
		}
		begun = true
	}
}

// errHere says that this node has become the leader.
var errHere = errors.New("this coordinator leads")

func (st *stream) open(ctx context.Context, leader Leader, out *outgoing) (*source, reply, error) {
	ln, err := st.s.lines.take(ctx, leader, true)
	if err != nil {
		return nil, reply{}, err
	}
	src := &source{line: ln, br: bufio.NewReaderSize(ln.Conn, streamBuffer)}
	r, err := src.ask(ctx, out)
	if err != nil || r.status != fasthttp.StatusOK {
		st.s.lines.put(ln, false)
		return nil, r, err
	}
	return src, r, nil
}

// ask sends the request and reads the head of the answer; the rest of one that
// is no stream, too.
func (src *source) ask(ctx context.Context, out *outgoing) (reply, error) {
	stop := context.AfterFunc(ctx, func() { src.Close() })
	defer stop()
	if err := src.send(out, 0); err != nil {
		return reply{}, err
	}
	resp := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(resp)
	if err := resp.Header.Read(src.br); err != nil {
		return reply{}, err
	}
	if resp.StatusCode() != fasthttp.StatusOK {
		if n := resp.Header.ContentLength(); n > 0 && n <= smallBody {
			body := make([]byte, n)
			for read := 0; read < n; {
				m, err := src.br.Read(body[read:])
				if err != nil {
					return reply{}, err
				}
				read += m
			}
			resp.SetBodyRaw(body)
		}
	}
	return received(resp), nil
}

// pass writes the leader's events to the reader until either is gone; lost means
// that it was the leader. Only whole events are passed on, and the id of the last
// one is where the next stream begins.
func (st *stream) pass(src *source) (lost bool) {
	defer func() { st.s.lines.put(src.line, false) }()
	var event []byte
	for {
		if err := src.SetReadDeadline(time.Now().Add(streamSilence)); err != nil {
			return true
		}
		part, err := src.br.ReadSlice('\n')
		event = append(event, part...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) || len(event) > protocol.MaxEvent {
			return true
		}
		if err != nil || len(part) > 1 || src.inside(event) {
			continue
		}
		if id, ok := lastID(event); ok {
			st.seen = id
		}
		if !bytes.HasPrefix(event, []byte("retry:")) && write(st.conn, event) != nil {
			return false
		}
		if event = event[:0]; cap(event) > eventKept {
			event = nil
		}
	}
}

// inside reports whether a line of one byte is not the end of the event: the
// buffer was full just before it.
func (src *source) inside(event []byte) bool {
	return len(event) > 1 && event[len(event)-2] != '\n'
}

// lastID returns the newest id in the text of an event.
func lastID(event []byte) (board.Revision, bool) {
	for line := range bytes.SplitSeq(event, []byte{'\n'}) {
		if text, ok := bytes.CutPrefix(line, []byte("id: ")); ok {
			id, err := board.ParseRevision(string(text))
			return id, err == nil
		}
	}
	return board.Revision{}, false
}
