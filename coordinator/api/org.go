package api

import (
	"context"
	"math"
	"regexp"

	"windlass/coordinator/auth"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	orgPattern = "^org_[a-z0-9][a-z0-9_-]{0,58}$"
	// maxName bounds the name of an organisation or a key; it is for people.
	maxName = 200
	// maxWeight keeps the shares of organisations comparable.
	maxWeight = 1_000_000
)

// listOrgs is GET /v2/orgs.
func (s *Server) listOrgs(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	page := protocol.Page[protocol.Org]{Data: []protocol.Org{}}
	for _, o := range s.deps.Store.View().Orgs() {
		page.Data = append(page.Data, orgOf(o))
	}
	return c.json(page)
}

// getOrg is GET /v2/orgs/{id}: any with cluster:admin, else one's own.
func (s *Server) getOrg(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	o, err := c.org(ctx)
	if err != nil {
		return err
	}
	return c.json(orgOf(o))
}

// org reads the organisation that the path names.
func (c *call) org(ctx context.Context) (*state.Org, error) {
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	id := c.args[0]
	o := c.s.deps.Store.View().Org(id)
	if o == nil || id != c.who.Org && !c.who.May(auth.ClusterAdmin) {
		return nil, orgNotFound(id)
	}
	return o, nil
}

func (s *Server) createOrg(c *call) error { return s.writeOrg(c, "") }

func (s *Server) putOrg(c *call) error { return s.writeOrg(c, c.args[0]) }

// writeOrg creates an organisation when id is empty, else replaces what is set of
// that one.
func (s *Server) writeOrg(c *call, id string) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	doc := protocol.Org{ID: id, Weight: 1}
	if err := parseObject(body, &doc); err != nil {
		return err
	}
	var bad findings
	checkOrg(&doc, id, &bad)
	if err := bad.err(); err != nil {
		return err
	}
	put := &command.PutOrg{
		Id: doc.ID, Name: doc.Name, Weight: uint32(doc.Weight), QueueLimit: uint32(doc.QueueLimit), MaxRunning: uint32(doc.MaxRunning),
		StorageQuota: doc.StorageQuota, Credits: doc.Credits.Enabled, ExpectRevision: doc.Revision, Create: id == "",
	}
	ctx, cancel := c.context()
	defer cancel()
	res, err := s.propose(ctx, &command.Command{Op: &command.Command_PutOrg{PutOrg: put}})
	if err == nil {
		err = s.deps.Applied(ctx, res.Index)
	}
	if err != nil {
		return orgError(err, doc.ID)
	}
	c.audit("org.put").Str("of", doc.ID).Uint64("index", res.Index).Send()
	o := s.deps.Store.View().Org(doc.ID)
	if o == nil {
		return orgNotFound(doc.ID)
	}
	return c.json(orgOf(o))
}

func checkOrg(doc *protocol.Org, id string, bad *findings) {
	if id != "" && doc.ID != id {
		bad.add("id", doc.ID, "Must be the id of the path, "+id)
	}
	if ok, _ := regexp.MatchString(orgPattern, doc.ID); !ok {
		bad.add("id", doc.ID, "Must match "+orgPattern)
	}
	checkName(doc.Name, bad)
	between(bad, "weight", doc.Weight, 1, maxWeight)
	between(bad, "queueLimit", doc.QueueLimit, 0, maxCount)
	between(bad, "maxRunning", doc.MaxRunning, 0, maxCount)
	if doc.StorageQuota < 0 || doc.StorageQuota > math.MaxInt64/2 {
		bad.add("storageQuota", doc.StorageQuota, "Must be a number of bytes, 0 for no limit")
	}
}

// checkName refuses what would not fit on a line for people.
func checkName(name string, bad *findings) {
	if len(name) > maxName {
		bad.add("name", name, "Must have at most 200 bytes")
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			bad.add("name", name, "Must not hold control characters")
			return
		}
	}
}

// deleteOrg is DELETE /v2/orgs/{id}.
func (s *Server) deleteOrg(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	id := c.args[0]
	if _, err := c.org(ctx); err != nil {
		return err
	}
	res, err := s.propose(ctx, &command.Command{Op: &command.Command_DeleteOrg{DeleteOrg: &command.DeleteOrg{Id: id}}})
	if err != nil {
		return orgError(err, id)
	}
	c.audit("org.delete").Str("of", id).Uint64("index", res.Index).Send()
	return c.json(deleted{id, true})
}

// deleted is the answer to a DELETE.
type deleted struct {
	ID      string `json:"id"`
	Deleted bool   `json:"deleted"`
}

func orgError(err error, id string) error {
	if protocol.CodeOf(err) == protocol.CodeOrgNotFound {
		return orgNotFound(id)
	}
	return err
}

func orgNotFound(id string) error {
	return protocol.NewError(protocol.CodeOrgNotFound, "Organisation "+shown(id).(string)+" does not exist").With("orgId", shown(id))
}

func orgOf(o *state.Org) protocol.Org {
	return protocol.Org{
		ID: o.ID, Name: o.Name, Weight: int(o.Weight), QueueLimit: int(o.QueueLimit), MaxRunning: int(o.MaxRunning),
		StorageQuota: o.StorageQuota, StorageUsed: o.Stored, CreatedAt: protocol.Time(o.CreatedMs), Revision: o.Revision,
		Credits: protocol.Credits{
			Enabled: o.Credits.Enabled, Balance: protocol.Money(o.Credits.Balance), Reserved: protocol.Money(o.Credits.Reserved),
		},
	}
}
