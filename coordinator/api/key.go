package api

import (
	"context"
	"regexp"
	"slices"
	"time"

	"windlass/coordinator/auth"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// defaultOverlap lets every program of an organisation be given the new text
	// within a working day.
	defaultOverlap = 24 * time.Hour
	// maxOverlap bounds how long two texts of one key are valid.
	maxOverlap = 30 * 24 * time.Hour
	// maxKeyEndpoints bounds the endpoints that one key is bound to.
	maxKeyEndpoints = 100
)

// ownKey is GET /v2/keys/self: who the caller is.
func (s *Server) ownKey(c *call) error {
	if row := s.deps.Store.View().APIKey(c.who.Key); row != nil {
		return c.json(keyOf(row, s.deps.NowMs()))
	}
	return c.json(protocol.Key{ID: c.who.KeyID(), Org: c.who.Org, Name: "Bootstrap key of the configuration", Status: protocol.KeyActive, Permissions: c.who.Permissions})
}

// listKeys is GET /v2/keys: those of the caller's organisation, or of another
// with cluster:admin.
func (s *Server) listKeys(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	org, err := c.orgOrOwn(c.query("org"))
	if err != nil {
		return err
	}
	view := s.deps.Store.View()
	if view.Org(org) == nil {
		return orgNotFound(org)
	}
	page, now := protocol.Page[protocol.Key]{Data: []protocol.Key{}}, s.deps.NowMs()
	for _, row := range view.APIKeys() {
		if row.Org == org && c.sees(row) {
			page.Data = append(page.Data, keyOf(row, now))
		}
	}
	return c.json(page)
}

// getKey is GET /v2/keys/{id}.
func (s *Server) getKey(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.key(ctx)
	if err != nil {
		return err
	}
	return c.json(keyOf(row, s.deps.NowMs()))
}

// createKey is POST /v2/keys. The text is in its answer and nowhere else.
func (s *Server) createKey(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.KeyRequest
	if err := parseObject(body, &in); err != nil {
		return err
	}
	if in.Org, err = c.orgOrOwn(in.Org); err != nil {
		return err
	}
	if err := c.checkKey(&in); err != nil {
		return err
	}
	id := protocol.NewKeyID(time.UnixMilli(s.deps.NowMs()))
	text, hash := auth.NewText(id)
	create := &command.CreateKey{Id: id[:], Org: in.Org, Name: in.Name, Endpoints: in.Endpoints, Hash: hash[:], ExpiresMs: int64(in.ExpiresAt)}
	for _, p := range in.Permissions {
		create.Permissions = append(create.Permissions, string(p))
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.changeKey(ctx, id, "key.create", &command.Command{Op: &command.Command_CreateKey{CreateKey: create}})
	if err != nil {
		return orgError(err, in.Org)
	}
	doc := keyOf(row, s.deps.NowMs())
	doc.Key = text
	return c.json(doc)
}

// checkKey completes a request and refuses one for more than the caller has.
func (c *call) checkKey(in *protocol.KeyRequest) error {
	var bad findings
	checkName(in.Name, &bad)
	slices.Sort(in.Permissions)
	in.Permissions = slices.Compact(in.Permissions)
	if len(in.Permissions) == 0 {
		bad.add("permissions", nil, "Required: what the key may do")
	}
	for _, p := range in.Permissions {
		if !slices.Contains(auth.Permissions(), p) {
			bad.add("permissions", string(p), "Unknown; there are jobs:read, jobs:write, endpoints:execute, endpoints:write, agents:manage, keys:manage and cluster:admin")
		}
	}
	slices.Sort(in.Endpoints)
	in.Endpoints = slices.Compact(in.Endpoints)
	if len(in.Endpoints) > maxKeyEndpoints {
		bad.add("endpoints", len(in.Endpoints), "Must be at most 100")
	}
	for _, e := range in.Endpoints {
		if ok, _ := regexp.MatchString(endpointPattern, e); !ok {
			bad.add("endpoints", e, "Must match "+endpointPattern)
		}
	}
	c.checkExpiry(in, &bad)
	if err := bad.err(); err != nil {
		return err
	}
	if len(in.Endpoints) == 0 {
		in.Endpoints = c.who.Endpoints
	}
	for _, e := range in.Endpoints {
		if !c.who.Reaches(c.who.Org, e) {
			return endpointNotFound(e)
		}
	}
	return c.covers(in.Permissions)
}

// checkExpiry bounds the end of a new key by that of the key that makes it.
func (c *call) checkExpiry(in *protocol.KeyRequest, bad *findings) {
	latest := protocol.Time(c.who.ExpiresMs)
	switch {
	case in.ExpiresAt == 0:
		in.ExpiresAt = latest
	case int64(in.ExpiresAt) <= c.s.deps.NowMs():
		bad.add("expiresAt", in.ExpiresAt, "Must be in the future")
	case latest != 0 && in.ExpiresAt > latest:
		bad.add("expiresAt", in.ExpiresAt, "Must not be later than the end of the key that makes it, "+latest.String())
	}
}

// covers refuses somebody who does not hold all of the permissions.
func (c *call) covers(list []auth.Permission) error {
	for _, p := range list {
		if !c.who.May(p) {
			c.audit("denied").Str("permission", string(p)).Str("operation", c.route.operation).Send()
			return c.denied(p, subjectNone)
		}
	}
	return nil
}

// rotateKey is POST /v2/keys/{id}/rotate: a new text for the same key.
func (s *Server) rotateKey(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.KeyRotation
	if len(body) > 0 {
		if err := parseObject(body, &in); err != nil {
			return err
		}
	}
	overlap := defaultOverlap
	if in.Overlap != nil {
		overlap = in.Overlap.Std()
	}
	if overlap > maxOverlap {
		return protocol.Invalid("overlap", in.Overlap, "Must be at most 720h (30 days)")
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.ownedKey(ctx)
	if err != nil {
		return err
	}
	text, hash := auth.NewText(row.ID)
	rotate := &command.RotateKey{Id: row.ID[:], Org: row.Org, ExpectHash: row.Hash[:], Hash: hash[:], OverlapMs: overlap.Milliseconds()}
	if row, err = c.changeKey(ctx, row.ID, "key.rotate", &command.Command{Op: &command.Command_RotateKey{RotateKey: rotate}}); err != nil {
		return err
	}
	doc := keyOf(row, s.deps.NowMs())
	doc.Key = text
	return c.json(doc)
}

// revokeKey is DELETE /v2/keys/{id}: no coordinator accepts the key any more once
// it has applied that.
func (s *Server) revokeKey(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.ownedKey(ctx)
	if err != nil {
		return err
	}
	revoke := &command.RevokeKey{Id: row.ID[:], Org: row.Org}
	if row, err = c.changeKey(ctx, row.ID, "key.revoke", &command.Command{Op: &command.Command_RevokeKey{RevokeKey: revoke}}); err != nil {
		return err
	}
	return c.json(keyOf(row, s.deps.NowMs()))
}

// changeKey writes a command about a key and returns the key as it is then.
func (c *call) changeKey(ctx context.Context, id protocol.KeyID, action string, cmd *command.Command) (*state.APIKey, error) {
	res, err := c.s.propose(ctx, cmd)
	if err == nil {
		if err = c.s.deps.Applied(ctx, res.Index); err != nil {
			err = uncertainRead(err)
		}
	}
	if protocol.CodeOf(err) == protocol.CodeKeyNotFound {
		return nil, keyNotFound(id.String())
	}
	if err != nil {
		return nil, err
	}
	row := c.s.deps.Store.View().APIKey(id)
	if row == nil {
		return nil, keyNotFound(id.String())
	}
	c.audit(action).Stringer("key", id).Str("of", row.Org).Uint64("index", res.Index).Send()
	return row, nil
}

// key reads the key that the path names.
func (c *call) key(ctx context.Context) (*state.APIKey, error) {
	id, err := protocol.ParseKeyID(c.args[0])
	if err != nil {
		return nil, keyNotFound(c.args[0])
	}
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	row := c.s.deps.Store.View().APIKey(id)
	if row == nil || !c.sees(row) {
		return nil, keyNotFound(c.args[0])
	}
	return row, nil
}

// ownedKey is key for somebody who would change it: only keys that the caller
// could have made, so that no new text gives it more than it has.
func (c *call) ownedKey(ctx context.Context) (*state.APIKey, error) {
	row, err := c.key(ctx)
	if err == nil {
		err = c.covers(row.Permissions)
	}
	return row, err
}

// sees reports whether the caller knows of a key: of its own organisation, or of
// any with cluster:admin; one that is bound to endpoints, of those alone.
func (c *call) sees(row *state.APIKey) bool {
	if row.Org != c.who.Org {
		return c.who.May(auth.ClusterAdmin) && len(c.who.Endpoints) == 0
	}
	if len(c.who.Endpoints) > 0 && len(row.Endpoints) == 0 {
		return false
	}
	return !slices.ContainsFunc(row.Endpoints, func(e string) bool { return !c.who.Reaches(row.Org, e) })
}

// orgOrOwn is the organisation that a request names: the caller's own, or any
// with cluster:admin.
func (c *call) orgOrOwn(id string) (string, error) {
	if id == "" || id == c.who.Org {
		return c.who.Org, nil
	}
	if !c.who.May(auth.ClusterAdmin) || len(c.who.Endpoints) > 0 {
		return "", orgNotFound(id)
	}
	return id, nil
}

func keyNotFound(id string) error {
	return protocol.NewError(protocol.CodeKeyNotFound, "Key "+shown(id).(string)+" does not exist").With("keyId", shown(id))
}

func keyOf(row *state.APIKey, nowMs int64) protocol.Key {
	doc := protocol.Key{
		ID: row.ID.String(), Org: row.Org, Name: row.Name, Status: protocol.KeyActive, Permissions: row.Permissions, Endpoints: row.Endpoints,
		CreatedAt: protocol.Time(row.CreatedMs), ExpiresAt: protocol.Time(row.ExpiresMs), RotatedAt: protocol.Time(row.RotatedMs),
		RevokedAt: protocol.Time(row.RevokedMs),
	}
	switch {
	case row.RevokedMs > 0:
		doc.Status = protocol.KeyRevoked
	case !row.Live(nowMs):
		doc.Status = protocol.KeyExpired
	case nowMs < row.OlderMs:
		doc.OverlapUntil = protocol.Time(row.OlderMs)
	}
	return doc
}
