package api

import (
	"context"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"windlass/coordinator/auth"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// authenticate finds out who calls. A key that this node has not heard of may
// have been made elsewhere a moment ago: it is looked for again once this node
// has applied everything that was acknowledged.
func (c *call) authenticate() error {
	header := c.ctx.Request.Header.Peek(fasthttp.HeaderAuthorization)
	var verdict auth.Verdict
	c.who, verdict = c.s.deps.Keys.Authenticate(header, c.s.deps.Store.View(), c.s.deps.NowMs())
	if err := c.exhausted(verdict); err != nil {
		return err
	}
	if verdict == auth.Unheard && !c.s.leads() {
		ctx, cancel := c.context()
		defer cancel()
		if err := c.s.barrier(ctx); err != nil {
			return err
		}
		c.who, verdict = c.s.deps.Keys.Authenticate(header, c.s.deps.Store.View(), c.s.deps.NowMs())
	}
	if verdict != auth.Valid {
		if !c.relayed {
			c.s.deps.Failures.Count(c.address(), time.Now())
		}
		return protocol.NewError(protocol.CodeUnauthorized, "An API key is required: send the header Authorization: Bearer YOUR_API_KEY")
	}
	return nil
}

// opens reports whether a key that opened a stream still does; zero is the
// bootstrap key.
func (s *Server) opens(key protocol.KeyID) bool {
	if key.IsZero() {
		return true
	}
	row := s.deps.Store.View().APIKey(key)
	return row != nil && row.Live(s.deps.NowMs())
}

// authorise refuses what the caller may not do. What the route names is looked at
// first: of what the caller does not reach, it is told nothing (DESIGN 4).
func (c *call) authorise() error {
	p := c.route.permission
	if p == open || p == anyKey || c.who.May(p) {
		return nil
	}
	ctx, cancel := c.context()
	defer cancel()
	subject := subjectOf(c.route.pattern)
	if err := c.exists(ctx, subject); err != nil {
		return err
	}
	c.audit("denied").Str("permission", string(p)).Str("operation", c.route.operation).Send()
	return c.denied(p, subject)
}

// denied is the answer to somebody who lacks a permission.
func (c *call) denied(p auth.Permission, subject string) error {
	message := "You don't have permission to do this"
	switch {
	case subject == subjectJob && p == auth.JobsRead:
		message = "You don't have permission to view this job"
	case subject == subjectJob:
		message = "You don't have permission to change this job"
	}
	e := protocol.NewError(protocol.CodeAccessDenied, message).
		With("requiredPermission", p).With("userPermissions", c.who.Permissions)
	if subject == subjectJob {
		e.With("jobId", c.jobText())
	}
	return e
}

// What the first parameter of a pattern names.
const (
	subjectNone     = ""
	subjectJob      = "job"
	subjectEndpoint = "endpoint"
	subjectOrg      = "org"
	subjectKey      = "key"
	subjectSecret   = "secret"
)

// subjectOf reads a pattern. It is asked on the way to a refusal only.
func subjectOf(pattern string) string {
	if rest, ok := strings.CutPrefix(pattern, classicPrefix); ok {
		if strings.HasSuffix(rest, "/{id}") {
			return subjectJob
		}
		return subjectEndpoint
	}
	for prefix, subject := range map[string]string{
		"/v2/jobs/{": subjectJob, "/v2/endpoints/{": subjectEndpoint, "/v2/orgs/{": subjectOrg, "/v2/keys/{": subjectKey,
		"/v2/webhooks/secrets/{": subjectSecret,
	} {
		if strings.HasPrefix(pattern, prefix) {
			return subject
		}
	}
	return subjectNone
}

// exists returns the error of a caller who names what is not there for it.
func (c *call) exists(ctx context.Context, subject string) error {
	var err error
	switch subject {
	case subjectJob:
		_, err = c.row(ctx)
	case subjectEndpoint:
		_, err = c.endpoint(ctx)
	case subjectOrg:
		_, err = c.org(ctx)
	case subjectKey:
		_, err = c.key(ctx)
	case subjectSecret:
		_, err = c.webhookSecret(ctx)
	}
	return err
}

// reaches reports whether the caller knows of the job.
func (c *call) reaches(row *state.Job) bool { return c.who.Reaches(row.Org, row.Target) }

// audit begins a line about something that only some may do: who, what, and from
// where. It never holds a key.
func (c *call) audit(action string) *zerolog.Event {
	return c.s.deps.Log.Info().Str("component", "audit").Str("action", action).Str("by", c.who.KeyID()).Str("org", c.who.Org).
		Str("requestId", c.id).Stringer("address", c.ctx.RemoteIP())
}
