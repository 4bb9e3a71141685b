package api

import (
	"context"
	"encoding/hex"
	"encoding/json"

	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/state"
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
	req.Org = c.who.Org
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
	req.Org = c.who.Org
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
	req.Org = c.who.Org
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
	if err := c.mayRead(digest); err != nil {
		return err
	}
	return s.sendBlob(c, digest, "application/octet-stream")
}

// mayRead refuses a payload that an agent of the caller's organisation has nothing
// to do with, as if it were not there: anything but the input and the checkpoint
// of the job that the request names. Whoever serves everybody reads every payload.
func (c *call) mayRead(digest blob.Digest) error {
	if c.who.Org == protocol.OrgDefault {
		return nil
	}
	id, err := protocol.ParseJobID(c.query("job"))
	if err != nil {
		return errNoBlob()
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	row := c.s.deps.Store.Job(id)
	if row == nil || row.Org != c.who.Org || !isPayload(row.Input, digest) && (row.Extra == nil || !isPayload(row.Extra.Checkpoint, digest)) {
		return errNoBlob()
	}
	return nil
}

func isPayload(p state.Payload, digest blob.Digest) bool {
	return p.Ref != nil && p.Ref.SHA256 == digest
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

// listAgents is GET /v2/agents: those of the caller's organisation, all with
// cluster:admin.
func (s *Server) listAgents(c *call) error {
	b, berr := s.deps.Broker()
	if berr != nil {
		return errElsewhere
	}
	page, all := protocol.Page[protocol.AgentInfo]{Data: []protocol.AgentInfo{}}, c.who.May(auth.ClusterAdmin)
	for _, a := range b.Agents() {
		if all || a.Org == c.who.Org {
			page.Data = append(page.Data, a)
		}
	}
	return c.json(page)
}
