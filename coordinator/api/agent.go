package api

import (
	"context"
	"encoding/hex"
	"encoding/json"

	"windlass/coordinator/blob"
	"windlass/protocol"
)

// decode reads an agent's document. It is decoded once; the depth is checked
// by counting brackets, because results of handlers are inside.
func decode(c *call, out any) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	if tooDeeply(body) {
		return malformed(&jsonError{reason: tooDeep})
	}
	if err := json.Unmarshal(body, out); err != nil {
		return malformed(err)
	}
	return nil
}

// agentRegister is POST /agent/v1/register.
func (s *Server) agentRegister(c *call) error {
	var req protocol.RegisterRequest
	if err := decode(c, &req); err != nil {
		return err
	}
	b, berr := s.deps.Broker()
	if berr != nil {
		return c.toLeader(req.Relay, func(url string) any { return &protocol.RegisterResponse{Leader: url} })
	}
	ctx, cancel := c.context()
	defer cancel()
	resp, err := b.Register(ctx, req)
	if err != nil {
		return uncertain(err, protocol.JobID{})
	}
	return c.json(&resp)
}

// agentSync is POST /agent/v1/sync: the parked poll. The broker bounds the hold.
func (s *Server) agentSync(c *call) error {
	var req protocol.SyncRequest
	if err := decode(c, &req); err != nil {
		return err
	}
	b, berr := s.deps.Broker()
	if berr != nil {
		return c.toLeader(req.Relay, func(url string) any { return &protocol.SyncResponse{Seq: req.Seq, Leader: url} })
	}
	id, operation := c.id, c.route.operation
	wait := b.BeginSync(&req)
	err := c.hold(func(ctx context.Context) reply {
		resp, err := wait(ctx)
		if err != nil {
			err = uncertain(err, protocol.JobID{})
		}
		return s.answer(operation, id, &resp, err)
	})
	if err != nil {
		// Nobody waits for the answer: what was parked must not be granted a job.
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = wait(gone)
	}
	return err
}

// agentReport is POST /agent/v1/report.
func (s *Server) agentReport(c *call) error {
	var req protocol.ReportRequest
	if err := decode(c, &req); err != nil {
		return err
	}
	b, berr := s.deps.Broker()
	if berr != nil {
		return c.toLeader(req.Relay, func(url string) any { return &protocol.ReportResponse{Leader: url} })
	}
	ctx, cancel := c.context()
	defer cancel()
	resp, err := b.Report(ctx, req)
	if err != nil {
		return uncertain(err, protocol.JobID{})
	}
	return c.json(&resp)
}

// getBlob is GET /agent/v1/blobs/{sha}.
func (s *Server) getBlob(c *call) error {
	digest, err := blob.ParseDigest(c.args[0])
	if err != nil {
		return protocol.Invalid("sha256", shown(c.args[0]), "Must be 64 lower-case hexadecimal digits")
	}
	return s.sendBlob(c, digest, "application/octet-stream")
}

// putBlob is PUT /agent/v1/blobs/{sha}: it is durable when it is answered.
func (s *Server) putBlob(c *call) error {
	digest, err := blob.ParseDigest(c.args[0])
	if err != nil {
		return protocol.Invalid("sha256", shown(c.args[0]), "Must be 64 lower-case hexadecimal digits")
	}
	r, err := c.bodyStream()
	if err != nil {
		return err
	}
	_, size, err := s.deps.Blobs.Put(s.base, r, &digest, protocol.MaxOutput)
	if err != nil {
		return storageError(err)
	}
	return c.json(protocol.BlobRef{SHA256: hex.EncodeToString(digest[:]), Size: size})
}

// listAgents is GET /v2/agents.
func (s *Server) listAgents(c *call) error {
	b, berr := s.deps.Broker()
	if berr != nil {
		return errElsewhere
	}
	page := protocol.Page[protocol.AgentInfo]{Data: b.Agents()}
	if page.Data == nil {
		page.Data = []protocol.AgentInfo{}
	}
	return c.json(page)
}
