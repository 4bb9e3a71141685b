package api

import (
	"encoding/hex"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/output"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// grantTerm is how long a grant lets an upload begin: its sender asks for
	// another one after a break of that length.
	grantTerm = time.Hour
	// uploadTime lets protocol.MaxOutputFile through a line of 40 Mbit/s.
	uploadTime = 4 * time.Hour
)

// grantOutputs is POST /agent/v1/outputs: leave to upload what an attempt made. It
// is asked before anything is sent, so that what would exceed the quota is never
// stored (seed S0); what counts is checked again with the result, in the log.
func (s *Server) grantOutputs(c *call) error {
	var req protocol.GrantRequest
	if err := decode(c, &req); err != nil {
		return err
	}
	row, err := c.leased(&req)
	if err != nil {
		return err
	}
	blobs, total, err := grantedBlobs(&req)
	if err != nil {
		return err
	}
	view := s.deps.Store.View()
	if left := storageLeft(view, row); total > left {
		return s.storageLimit(c.baseURL(), row.Org, total, left)
	}
	secret := output.Secret(view.Meta().Secret)
	if secret == (output.Secret{}) {
		return unavailable("Outputs cannot be taken yet: not every coordinator runs this version")
	}
	expires := s.deps.NowMs() + grantTerm.Milliseconds()
	out := protocol.GrantResponse{Grants: []protocol.UploadGrant{}}
	for _, b := range blobs {
		out.Grants = append(out.Grants, protocol.UploadGrant{
			SHA256: hex.EncodeToString(b.SHA256[:]), Size: b.Size, ExpiresAt: protocol.Time(expires),
			Token: output.Grant{SHA256: b.SHA256, Size: b.Size, ExpiresMs: expires}.Token(secret),
		})
	}
	return c.json(&out)
}

// leased returns the job of which the caller's agent holds the lease.
func (c *call) leased(req *protocol.GrantRequest) (*state.Job, error) {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	view := c.s.deps.Store.View()
	a, row := view.Agent(req.Agent), view.Job(req.Job)
	if a == nil || a.Org != c.who.Org || row == nil || row.Lease == nil || row.Attempt != req.Attempt ||
		row.Lease.Agent != req.Agent || row.Lease.Incarnation != req.Incarnation {
		return nil, protocol.NewError(protocol.CodeStaleAttempt, "The attempt is not this agent's any more").With("jobId", req.Job)
	}
	return row, nil
}

// grantedBlobs lists what is to be stored, each blob once.
func grantedBlobs(req *protocol.GrantRequest) (list []state.Blob, total int64, err error) {
	var bad findings
	seen := make(map[[32]byte]bool)
	add := func(field, digest string, size, most int64) {
		d, err := blob.ParseDigest(digest)
		switch {
		case err != nil:
			bad.add(field+".sha256", digest, "Must be 64 lower-case hexadecimal digits")
		case size < 0 || size > most:
			bad.add(field+".size", size, "Must be at most "+protocol.FormatBytes(most))
		case !seen[d]:
			seen[d] = true
			list, total = append(list, state.Blob{SHA256: d, Size: size}), total+size
		}
	}
	if req.Output != nil {
		add("output", req.Output.SHA256, req.Output.Size, protocol.MaxOutput)
	}
	if len(req.Files) > protocol.MaxOutputFiles {
		bad.add("files", len(req.Files), "Must be at most 256 files")
	}
	for _, f := range req.Files {
		if err := protocol.CheckOutputName(f.Name); err != nil {
			bad.add("files.name", f.Name, "Must be the name of a file: "+err.Error())
		}
		add("files", f.SHA256, f.Size, protocol.MaxOutputFile)
	}
	return list, total, bad.err()
}

// unlimited is more than anybody stores.
const unlimited = int64(1) << 62

// storageLeft is how many bytes the job may store: what its organisation has left,
// and what the job itself has stored, which it replaces.
func storageLeft(view *state.View, row *state.Job) int64 {
	o := view.Org(row.Org)
	if o == nil || o.StorageQuota == 0 {
		return unlimited
	}
	left := o.StorageQuota - view.StoredBytes(row.Org)
	if out := row.Outcome; out != nil && out.OutputsUntilMs != 0 && view.HasStored(row.ID, out.OutputsUntilMs) {
		out.Outputs(func(b *state.Blob) { left += b.Size })
	}
	return left
}

// storageLimit is the refusal of what would exceed the quota (seed S0).
func (s *Server) storageLimit(base, org string, size, left int64) error {
	e := protocol.NewError(protocol.CodeStorageLimit, "Output size would exceed storage quota")
	e.Details = protocol.StorageDetails(size, left)
	return e.With("upgradeUrl", s.upgradeURL(base, org))
}

// upgradeURL is where an organisation's limits are raised: as the operator says,
// or else the organisation itself.
func (s *Server) upgradeURL(base, org string) string {
	if u := s.deps.UpgradeURL; u != "" {
		return u
	}
	return base + "/v2/orgs/" + org
}

// putOutput is PUT /agent/v1/outputs/{sha}: exactly the bytes that were granted.
// They are durable when it is answered.
func (s *Server) putOutput(c *call) error {
	digest, err := blob.ParseDigest(c.args[0])
	if err != nil {
		return protocol.Invalid("sha256", shown(c.args[0]), "Must be 64 lower-case hexadecimal digits")
	}
	g, ok := output.ReadGrant(s.deps.Store.View().Meta().Secret, c.header(protocol.HeaderGrant))
	switch {
	case !ok || g.SHA256 != digest:
		return protocol.NewError(protocol.CodeAccessDenied, "The upload needs its grant: ask for one with POST "+protocol.PathOutputs)
	case g.ExpiresMs <= s.deps.NowMs():
		return protocol.NewError(protocol.CodeAccessDenied, "The grant has expired: ask for another with POST "+protocol.PathOutputs)
	case int64(c.ctx.Request.Header.ContentLength()) != g.Size:
		return protocol.Invalid("Content-Length", c.ctx.Request.Header.ContentLength(), "Must be the size that was granted, "+protocol.FormatBytes(g.Size))
	}
	r, err := c.bodyStream()
	if err != nil {
		return err
	}
	if _, _, err = s.deps.Blobs.Put(s.base, r, &digest, g.Size); err != nil {
		return storageError(err)
	}
	return c.json(protocol.BlobRef{SHA256: hex.EncodeToString(digest[:]), Size: g.Size})
}

// expectedOutput is how much a job of the endpoint is expected to store, in bytes,
// where a quota must have room for it; 0 without a quota, or when nothing was
// measured yet.
func (s *Server) expectedOutput(e *state.Endpoint) int64 {
	view := s.deps.Store.View()
	if o := view.Org(e.Org); o == nil || o.StorageQuota == 0 || view.Meta().Feature < command.FeatureAPI {
		return 0
	}
	size, _ := s.estimate.stored(e.Org, e.ID)
	return size
}
