package forward

import (
	"context"
	"sync"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
)

// Register adds this package's methods to a peer port.
func (f *Forwarder) Register(handle func(method string, h peer.Handler)) {
	handle(methodWrite, f.serveWrite)
	handle(methodReadIndex, f.serveReadIndex)
}

// serveWrite applies the commands of a call side by side, as if their callers
// had come here: those that can share a log entry do.
func (f *Forwarder) serveWrite(ctx context.Context, r *peer.Request) (any, error) {
	var req request
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if !f.cfg.Cluster.IsLeader() {
		return nil, noLeader("That coordinator does not lead")
	}
	resp := &response{answers: make([]answer, len(req.commands))}
	var work sync.WaitGroup
	for i, c := range req.commands {
		if i == len(req.commands)-1 {
			resp.answers[i] = f.apply(ctx, c)
			break
		}
		work.Go(func() { resp.answers[i] = f.apply(ctx, c) })
	}
	work.Wait()
	return resp, nil
}

func (f *Forwarder) apply(ctx context.Context, c *command.Command) answer {
	res, err := f.cfg.Write(ctx, c)
	return answer{result: res, err: err}
}

func (f *Forwarder) serveReadIndex(ctx context.Context, _ *peer.Request) (any, error) {
	if !f.cfg.Cluster.IsLeader() {
		return nil, noLeader("That coordinator does not lead")
	}
	at, err := f.cfg.Cluster.ReadIndex(ctx)
	if err != nil {
		return nil, err
	}
	return index(at), nil
}
