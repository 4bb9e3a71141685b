package api

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

const (
	// maxSnapshot is far above any state that fits in memory; it bounds what a
	// wrong file costs in disk.
	maxSnapshot = 256 << 30
	// snapshotTime lets 40 GiB through a line of 100 Mbit/s.
	snapshotTime = time.Hour
)

// saveSnapshot is GET /v2/cluster/snapshot: everything that was acknowledged
// before the call.
func (s *Server) saveSnapshot(c *call) error {
	ctx, cancel := context.WithTimeout(s.base, snapshotTime)
	defer cancel()
	r, size, err := s.deps.Operator.Save(ctx)
	if err != nil {
		return err
	}
	c.write(reply{status: fasthttp.StatusOK, kind: "application/octet-stream"})
	c.ctx.Response.SetBodyStream(r, int(size))
	return nil
}

// restoreSnapshot is POST /v2/cluster/restore?cluster=ID. The id is asked for
// because nothing that this replaces can be had back.
func (s *Server) restoreSnapshot(c *call) error {
	id, _ := s.deps.Operator.Cluster()
	if given := c.query("cluster"); given == "" || given != id {
		return protocol.Invalid("cluster", given, "Must be the id of this cluster, which the list of members has")
	}
	body, err := c.bodyStream()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.base, snapshotTime)
	defer cancel()
	out, err := s.deps.Operator.Restore(ctx, body)
	if err != nil {
		return err
	}
	c.audit(c.route.operation).Uint64("index", out.Index).Send()
	return c.json(out)
}
