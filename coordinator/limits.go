package coordinator

import (
	"context"
	"time"

	"windlass/coordinator/auth"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

// methodTake asks the leader to count a request; body: take, answer: auth.Quota.
const methodTake = "limits/take"

// takeTime bounds the question: longer than a round trip that goes well, and
// little beside the patience of a client.
const takeTime = time.Second

// take is one request to count.
type take struct {
	Key   protocol.KeyID `json:"key"`
	Class auth.Class     `json:"class"`
}

// limits counts requests for the whole cluster at its leader. A coordinator that
// cannot ask it counts by itself meanwhile.
type limits struct {
	c   *Coordinator
	own *auth.Limiter
}

// Take implements api.Limits.
func (l *limits) Take(ctx context.Context, key protocol.KeyID, class auth.Class) auth.Quota {
	if !l.own.Limits(class) {
		return auth.Quota{}
	}
	if to, ok := l.c.node.LeaderPeer(); ok && !l.c.node.IsLeader() && l.c.port != nil {
		ctx, cancel := context.WithTimeout(ctx, takeTime)
		defer cancel()
		var q auth.Quota
		if err := l.c.call(ctx, to, methodTake, &take{Key: key, Class: class}, &q); err == nil {
			return q
		}
	}
	return l.own.Take(key, class, time.Now())
}

// serve counts what other coordinators ask for.
func (l *limits) serve(port *peer.Port) {
	port.Handle(methodTake, func(_ context.Context, r *peer.Request) (any, error) {
		var t take
		if err := r.Decode(&t); err != nil {
			return nil, err
		}
		if t.Class > auth.ClassSubmit {
			return nil, protocol.Invalid("class", t.Class, "Must be a class of requests that this version knows")
		}
		return l.own.Take(t.Key, t.Class, time.Now()), nil
	})
}
