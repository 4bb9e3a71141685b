package api

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

// Limits counts requests.
type Limits interface {
	// Take counts one request of a key for the whole cluster.
	Take(ctx context.Context, key protocol.KeyID, class auth.Class) auth.Quota
}

// rateClass names the bucket that a request counts against (DESIGN 4).
type rateClass = auth.Class

const (
	rateNone   = auth.ClassNone
	rateStatus = auth.ClassStatus // 100 a minute for each key; a batch or a stream counts once
	rateSubmit = auth.ClassSubmit
)

// admit counts the request against its key's limit, and refuses one too many. A
// relayed request was counted where the client sent it.
func (c *call) admit() error {
	class := c.route.rate
	if class == rateNone || c.relayed || c.who.Unlimited || c.route.permission == open {
		return nil
	}
	q := c.s.deps.Limits.Take(c.s.base, c.who.Key, class)
	if q.Limit == 0 {
		return nil
	}
	name := strconv.Quote(class.String())
	c.label = append(c.label,
		[2]string{protocol.HeaderRatePolicy, name + ";q=" + strconv.Itoa(q.Limit) + ";w=" + strconv.Itoa(int(auth.Window.Seconds()))},
		[2]string{protocol.HeaderRate, name + ";r=" + strconv.Itoa(q.Remaining) + ";t=" + strconv.Itoa(q.Reset)})
	if q.RetryAfter == 0 {
		return nil
	}
	message, recommendation := "Too many status check requests", "Use webhooks or SSE for real-time updates"
	if class == rateSubmit {
		message, recommendation = "Too many jobs were submitted", "Spread the jobs over time, or ask for a higher limit"
	}
	return rateExceeded(message, q.Limit, q.RetryAfter, recommendation)
}

// rateExceeded is the answer of seed S2.
func rateExceeded(message string, limit, retryAfter int, recommendation string) error {
	return protocol.NewError(protocol.CodeRateLimit, message).With("limit", limit).
		With("window", fmt.Sprintf("%dm", int(auth.Window.Minutes()))).With("retryAfter", retryAfter).With("recommendation", recommendation)
}

// exhausted refuses an address that sent many keys which were not valid: it is not
// told whether the next one is. Only a key with a public id still opens: whoever
// guesses does not know one, and the others behind the address go on.
func (c *call) exhausted(verdict auth.Verdict) error {
	if c.relayed || verdict == auth.Valid && !c.who.Key.IsZero() {
		return nil
	}
	after := c.s.deps.Failures.Exhausted(c.address(), time.Now())
	if after == 0 {
		return nil
	}
	return rateExceeded("Too many keys from this address were not valid", c.s.deps.Failures.Limit(), after, "Check the API key, and wait")
}

// address is where the request came from; invalid when that is no address.
func (c *call) address() netip.Addr {
	addr, _ := netip.AddrFromSlice(c.ctx.RemoteIP())
	return addr
}

// relaying marks a connection from another coordinator, over which requests are
// relayed. What such a request says about its way is believed.
type relaying struct{ net.Conn }

// peerListener accepts connections from other coordinators.
type peerListener struct{ net.Listener }

// Accept implements net.Listener.
func (l peerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return relaying{conn}, nil
}

// fromPeer reports whether a connection is one from another coordinator.
func fromPeer(conn net.Conn) bool {
	for {
		switch c := conn.(type) {
		case relaying:
			return true
		case *handed:
			conn = c.Conn
		case *prefixed:
			conn = c.Conn
		default:
			return false
		}
	}
}
