package api

import (
	"bytes"
	"context"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }

// endpoint returns the endpoint that the path names. One that is not known here
// may have been created elsewhere a moment ago, so a miss is checked again
// after the barrier.
func (c *call) endpoint(ctx context.Context) (*state.Endpoint, error) {
	s, org, id := c.s, c.who.Org, c.args[0]
	if !c.who.Reaches(org, id) {
		return nil, endpointNotFound(id)
	}
	if e := s.deps.Store.Endpoint(org, id); e != nil {
		return e, nil
	}
	if checkEndpointID(id) != "" {
		return nil, endpointNotFound(id)
	}
	if err := s.barrier(ctx); err != nil {
		return nil, err
	}
	if e := s.deps.Store.Endpoint(org, id); e != nil {
		return e, nil
	}
	return nil, endpointNotFound(id)
}

func endpointNotFound(id string) error {
	return protocol.NewError(protocol.CodeEndpointNotFound, "Endpoint "+shown(id).(string)+" does not exist").With("endpointId", shown(id))
}

// barrier makes the read that follows linearizable, unless its caller asked for
// a stale one.
func (c *call) barrier(ctx context.Context) error {
	if c.stale {
		return nil
	}
	return c.s.barrier(ctx)
}

// barrier makes the read that follows linearizable (DESIGN 3.8).
func (s *Server) barrier(ctx context.Context) error {
	if err := s.deps.Barrier(ctx); err != nil {
		return uncertainRead(err)
	}
	return nil
}

func (s *Server) listEndpoints(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	rows := s.deps.Store.View().Endpoints(c.who.Org)
	page := protocol.Page[*protocol.Endpoint]{Data: make([]*protocol.Endpoint, 0, len(rows))}
	for _, e := range rows {
		if c.who.Reaches(e.Org, e.ID) {
			page.Data = append(page.Data, e.Doc)
		}
	}
	return c.json(page)
}

func (s *Server) getEndpoint(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	e := s.deps.Store.Endpoint(c.who.Org, c.args[0])
	if e == nil || !c.who.Reaches(e.Org, e.ID) {
		return endpointNotFound(c.args[0])
	}
	return c.json(e.Doc)
}

func (s *Server) createEndpoint(c *call) error { return s.writeEndpoint(c, "", true) }

func (s *Server) putEndpoint(c *call) error { return s.writeEndpoint(c, c.args[0], false) }

func (s *Server) writeEndpoint(c *call, id string, create bool) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	doc, err := parseEndpoint(body, id)
	if err != nil {
		return err
	}
	if !c.who.Reaches(c.who.Org, doc.ID) {
		return endpointNotFound(doc.ID)
	}
	put := &command.PutEndpoint{Org: c.who.Org, Id: doc.ID, ExpectRevision: doc.Revision, Create: create}
	// The organisation and the revision are the server's; so is whether it is
	// paused, which the routes for it change.
	doc.Org, doc.Revision, doc.Paused = "", 0, false
	if e := s.deps.Store.Endpoint(c.who.Org, doc.ID); e != nil {
		doc.Paused = e.Doc.Paused
	}
	if put.Doc, err = protocol.EncodeJSON(doc); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	res, err := s.propose(ctx, &command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: put}})
	if err != nil {
		return err
	}
	doc.Org, doc.Revision = c.who.Org, res.Revision
	return c.json(doc)
}

func (s *Server) deleteEndpoint(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	if !c.who.Reaches(c.who.Org, c.args[0]) {
		return endpointNotFound(c.args[0])
	}
	ctx, cancel := c.context()
	defer cancel()
	_, err := s.propose(ctx, &command.Command{Op: &command.Command_DeleteEndpoint{
		DeleteEndpoint: &command.DeleteEndpoint{Org: c.who.Org, Id: c.args[0]},
	}})
	if protocol.CodeOf(err) == protocol.CodeEndpointNotFound {
		return endpointNotFound(c.args[0])
	}
	if err != nil {
		return err
	}
	return c.json(deleted{c.args[0], true})
}

// propose appends one command and returns its result; a refusal is an error.
func (s *Server) propose(ctx context.Context, cmd *command.Command) (command.Result, error) {
	res, err := s.deps.Write(ctx, cmd)
	if err != nil {
		return command.Result{}, uncertain(err, protocol.JobID{})
	}
	if res.Code != "" {
		return command.Result{}, refused(res)
	}
	return res, nil
}
