package api

import (
	"context"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/coordinator/webhook"
	"windlass/protocol"
)

// testTime bounds a test event: an attempt with its answer, and a secret that has
// to be made first.
const testTime = 20 * time.Second

// callback checks where a submit's webhook goes, and keeps under which base its
// submitter reached us: the URLs in it begin with that. The base is of the level
// that sends webhooks.
func (c *call) callback(in *submission) error {
	if in.callbackURL == "" {
		return nil
	}
	if why := c.s.deps.Webhooks.CheckURL(in.callbackURL); why != "" {
		var bad findings
		bad.add(in.callbackField, in.callbackURL, why)
		return bad.err()
	}
	if c.s.deps.Store.View().Meta().Feature >= command.FeatureAPI {
		in.callbackBase = c.baseURL()
	}
	return nil
}

// webhooks is GET /v2/jobs/{id}/webhooks: the delivery log of the newest run.
func (s *Server) webhooks(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.row(ctx)
	if err != nil {
		return err
	}
	return c.json(deliveries(row))
}

func deliveries(row *state.Job) protocol.Page[protocol.WebhookDelivery] {
	page := protocol.Page[protocol.WebhookDelivery]{Data: []protocol.WebhookDelivery{}}
	d := row.Webhook()
	if d == nil {
		return page
	}
	doc := protocol.WebhookDelivery{
		WebhookID: protocol.WebhookID(row.ID, row.Run), State: d.State, URL: row.Extra.CallbackURL,
		Attempts: int(d.Attempt), Log: []protocol.WebhookAttempt{},
	}
	if d.State == protocol.DeliveryPending {
		doc.NextAttemptAt = protocol.Time(d.NextMs)
	}
	for i := range d.Log {
		a := &d.Log[i]
		doc.Log = append(doc.Log, protocol.WebhookAttempt{
			Attempt: int(a.Attempt), StartedAt: protocol.Time(a.StartedMs), Latency: seconds(a.LatencyMs),
			Status: int(a.Status), Error: a.Error, Answer: a.Answer,
		})
	}
	page.Data = append(page.Data, doc)
	return page
}

// redeliver is POST /v2/jobs/{id}/webhooks/redeliver: the attempts begin anew, the
// first one now.
func (s *Server) redeliver(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.row(ctx)
	if err != nil {
		return err
	}
	switch {
	case row.Extra == nil || row.Extra.CallbackURL == "":
		return protocol.NewError(protocol.CodeConflict, "The job was submitted without a callback").With("jobId", row.ID)
	case row.Live():
		return protocol.NewError(protocol.CodeConflict, "The job has not ended yet").With("jobId", row.ID).With("status", s.shownStatus(row))
	}
	again := &command.Redeliver{Job: row.ID[:], Org: row.Org}
	if d := row.Webhook(); d != nil {
		again.ExpectAttempt = d.Attempt
	}
	row, err = s.rerun(ctx, row, &command.Command{Op: &command.Command_Redeliver{Redeliver: again}})
	if err != nil {
		return err
	}
	return c.json(deliveries(row))
}

// listWebhookSecrets is GET /v2/webhooks/secrets: what signs, without its text.
func (s *Server) listWebhookSecrets(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	page := protocol.Page[protocol.WebhookSecret]{Data: []protocol.WebhookSecret{}}
	for _, one := range s.deps.Store.View().WebhookSecrets(c.who.Org).Live(s.deps.NowMs()) {
		page.Data = append(page.Data, secretOf(&one))
	}
	return c.json(page)
}

func secretOf(one *state.WebhookSecret) protocol.WebhookSecret {
	return protocol.WebhookSecret{
		ID: one.ID, CreatedAt: protocol.Time(one.CreatedMs), ExpiresAt: protocol.Time(one.ExpiresMs), Automatic: one.Automatic,
	}
}

// createWebhookSecret is POST /v2/webhooks/secrets. The text is in its answer and
// nowhere else.
func (s *Server) createWebhookSecret(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	return c.putWebhookSecret(webhook.NewSecret(c.who.Org, time.UnixMilli(s.deps.NowMs())))
}

// rotateWebhookSecret is POST /v2/webhooks/secrets/rotate: a new secret, and the one
// before signs as well for a while.
func (s *Server) rotateWebhookSecret(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.WebhookRotation
	if len(body) > 0 {
		if err := parseObject(body, &in); err != nil {
			return err
		}
	}
	overlap := defaultOverlap
	if in.Overlap != nil {
		overlap = in.Overlap.Std()
	}
	if overlap < 0 || overlap > maxOverlap {
		return protocol.Invalid("overlap", in.Overlap, "Must be at most 720h (30 days)")
	}
	put := webhook.NewSecret(c.who.Org, time.UnixMilli(s.deps.NowMs()))
	put.Rotate, put.OverlapMs = true, overlap.Milliseconds()
	return c.putWebhookSecret(put)
}

func (c *call) putWebhookSecret(put *command.PutWebhookSecret) error {
	ctx, cancel := c.context()
	defer cancel()
	res, err := c.s.propose(ctx, &command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: put}})
	if err != nil {
		return err
	}
	doc := protocol.WebhookSecret{ID: protocol.SecretID(put.Id), Secret: protocol.SecretText(put.Key), CreatedAt: protocol.Time(res.CreatedMs)}
	c.audit("webhook.secret").Stringer("secret", doc.ID).Bool("rotated", put.Rotate).Send()
	return c.json(doc)
}

// revokeWebhookSecret is DELETE /v2/webhooks/secrets/{id}: it signs nothing any more.
func (s *Server) revokeWebhookSecret(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	one, err := c.webhookSecret(ctx)
	if err != nil {
		return err
	}
	drop := &command.DropWebhookSecret{Id: one.ID[:], Org: c.who.Org}
	if _, err := s.propose(ctx, &command.Command{Op: &command.Command_DropWebhookSecret{DropWebhookSecret: drop}}); err != nil {
		return err
	}
	c.audit("webhook.revoke").Stringer("secret", one.ID).Send()
	return c.json(secretOf(one))
}

// webhookSecret returns the secret that the path names, if it is the caller's own.
func (c *call) webhookSecret(ctx context.Context) (*state.WebhookSecret, error) {
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	id, err := protocol.ParseSecretID(c.args[0])
	if err == nil {
		for _, one := range c.s.deps.Store.View().WebhookSecrets(c.who.Org).Live(c.s.deps.NowMs()) {
			if one.ID == id {
				return &one, nil
			}
		}
	}
	text, _ := shown(c.args[0]).(string)
	return nil, protocol.NewError(protocol.CodeNotFound, "Webhook secret "+text+" does not exist or has expired").With("secretId", text)
}

// testWebhook is POST /v2/webhooks/test: one signed event, sent from this coordinator.
func (s *Server) testWebhook(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.WebhookTestRequest
	if err := parseObject(body, &in); err != nil {
		return err
	}
	if why := s.deps.Webhooks.CheckURL(in.URL); why != "" {
		return protocol.Invalid("url", in.URL, why)
	}
	ctx, cancel := context.WithTimeout(s.base, testTime)
	defer cancel()
	out, err := s.deps.Webhooks.Test(ctx, c.who.Org, in.URL)
	if err != nil {
		return uncertain(err, protocol.JobID{})
	}
	return c.json(out)
}
