package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// A relayed request is one that only the leader can answer: it is sent there as
// it came, over a connection of the coordinators' own port, and is checked there
// again. It waits like a held request, in a goroutine of its own, so that ten
// thousand of them cost this node what its own held ones do.

// errElsewhere says that the leader must answer the request.
var errElsewhere = errors.New("the leader must answer this")

const (
	// relayTime is how long a request is relayed at most, beside what it asked to
	// wait: an election and an answer.
	relayTime = writeTime
	// maxRelayed is the largest answer that is relayed: a page of logs. Outputs
	// come from each coordinator's own store.
	maxRelayed = maxDetail + firstRead
)

// relayedHeaders are those of a request that its answer depends on.
func relayedHeaders() []string {
	return []string{
		fasthttp.HeaderHost, fasthttp.HeaderAuthorization, fasthttp.HeaderContentType, fasthttp.HeaderAccept,
		fasthttp.HeaderIfNoneMatch, protocol.HeaderLastEventID, protocol.HeaderIdempotencyKey,
	}
}

// answerHeaders are those that are passed back, beside what every answer has.
func answerHeaders() []string {
	return []string{
		fasthttp.HeaderETag, fasthttp.HeaderRetryAfter, fasthttp.HeaderAllow, fasthttp.HeaderWWWAuthenticate,
		protocol.HeaderIndex, protocol.HeaderAge, protocol.HeaderReplayed, protocol.HeaderEnded,
	}
}

// readRelay notes that another coordinator relays the request.
func (c *call) readRelay() {
	raw := c.ctx.Request.Header.Peek(protocol.HeaderRelay)
	if len(raw) == 0 || !fromPeer(c.ctx.Conn()) {
		return
	}
	c.relayed = true
	if ms, err := strconv.ParseUint(string(raw), 10, 31); err == nil {
		c.waited = time.Duration(ms) * time.Millisecond
	}
}

// outgoing is a request as it is relayed.
type outgoing struct {
	head  []byte // without the relay header and the empty line
	body  []byte
	limit time.Duration // to wait for the answer's first byte
	once  bool          // a lost answer is the sender's affair
	began time.Time     // when the request came
}

// outgoing copies the request.
func (c *call) outgoing(path string) *outgoing {
	return c.outgoingAs(string(c.ctx.Request.Header.Method()), path)
}

// outgoingAs makes a request of the same sender.
func (c *call) outgoingAs(method, path string) *outgoing {
	h := &c.ctx.Request.Header
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\n")
	for _, name := range relayedHeaders() {
		if v := h.Peek(name); len(v) > 0 {
			b.WriteString(name + ": ")
			b.Write(v)
			b.WriteString("\r\n")
		}
	}
	b.WriteString(protocol.HeaderRequestID + ": " + c.id + "\r\n")
	b.WriteString(fasthttp.HeaderXForwardedProto + ": " + c.scheme() + "\r\n")
	if c.turn != "" {
		b.WriteString(protocol.HeaderRelayTurn + ": " + c.turn + "\r\n")
	}
	out := &outgoing{limit: relayTime + c.holds, once: c.once, began: c.began}
	if method != fasthttp.MethodGet {
		b.WriteString(fasthttp.HeaderContentLength + ": " + strconv.Itoa(len(c.raw)) + "\r\n")
		out.body = c.raw
	}
	if !c.deadline.IsZero() {
		out.limit = time.Until(c.deadline)
	}
	out.head = []byte(b.String())
	return out
}

// localAnswer answers about a job that has ended by a raft index.
type localAnswer func(ctx context.Context, index uint64) reply

// relay has the leader answer the request.
func (c *call) relay() error {
	if c.relayed {
		return noLeader(protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead at the moment").With("outcome", "none"))
	}
	out, s, id, operation, ended := c.outgoing(string(c.ctx.Request.Header.RequestURI())), c.s, c.id, c.route.operation, c.ended
	return c.hold(func(ctx context.Context) reply {
		ctx, cancel := context.WithTimeout(ctx, out.limit)
		defer cancel()
		r, err := s.relay(ctx, out)
		if err != nil {
			return s.errorReply(operation, id, err)
		}
		if index := r.endedBy(); index > 0 && ended != nil {
			return ended(ctx, index)
		}
		return r
	})
}

// endedBy is the index by which the leader says that the job has ended; 0 when
// the reply is the answer.
func (r *reply) endedBy() uint64 {
	for _, h := range r.header {
		if h[0] == protocol.HeaderEnded {
			index, _ := strconv.ParseUint(h[1], 10, 64) // 0: no index that we could wait for
			return index
		}
	}
	return 0
}

// relay sends a request to whoever leads until it is answered. Whatever is
// relayed reads, or states what is so: it may be sent again.
func (s *Server) relay(ctx context.Context, out *outgoing) (reply, error) {
	begun := false
	seek := s.deps.Cluster.Seek()
	for {
		leader, err := seek.Turn(ctx, begun)
		if err != nil {
			return reply{}, uncertainRead(err)
		}
		r, sent, err := s.lines.exchange(ctx, leader, out, time.Since(out.began))
		if err == nil && !notLeading(r) {
			return r, unknownRoute(r)
		}
		begun = begun || sent
		if sent && out.once {
			return reply{}, unavailable("The connection to the leader was lost")
		}
	}
}

// unknownRoute is the error of an answer that says that the leader does not know
// the route: it is still of the version before.
func unknownRoute(r reply) error {
	var e protocol.Error
	if r.status == fasthttp.StatusNotFound && json.Unmarshal(r.body, &e) == nil && e.Code == protocol.CodeNotFound {
		return upgrading()
	}
	return nil
}

// notLeading reports whether the answer is of a coordinator that leads no more,
// or not yet.
func notLeading(r reply) bool {
	if r.status != fasthttp.StatusServiceUnavailable {
		return false
	}
	var e protocol.Error
	return json.Unmarshal(r.body, &e) == nil && e.Code == protocol.CodeNoLeader
}
