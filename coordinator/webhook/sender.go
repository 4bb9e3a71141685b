// Package webhook tells the receivers that callers name how their jobs ended. The
// outbox is replicated with the jobs; the leader sends from it. See DESIGN.md.
package webhook

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/output"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/protocol/netguard"
)

const (
	// maxAge is how long a delivery may be pending: the whole schedule with the longest
	// waits that a receiver may ask for, and as much again for its turn. Rows that are
	// owed stay in memory, so it has to end.
	maxAge = 8 * time.Hour

	// oursPause is how long a delivery waits that could not be attempted for a reason
	// of ours, such as a blob store that is away.
	oursPause = 30 * time.Second

	// recordPause is between two tries to record an attempt. The attempt was made, so
	// it is tried until the leadership ends.
	recordPause = time.Second
)

// Config is what a Sender is built from.
type Config struct {
	Store *state.Store
	// Propose puts commands into this leader's log.
	Propose func(ctx context.Context, cmds ...*command.Command) ([]command.Result, error)
	// Write puts a command into the log, wherever the leader is.
	Write func(ctx context.Context, c *command.Command) (command.Result, error)
	// Applied returns when this node has applied the log up to index.
	Applied func(ctx context.Context, index uint64) error
	// NowMs is the coordinator's clock in unix milliseconds.
	NowMs func() int64
	Blobs blob.Store
	// Rule says which addresses may be reached.
	Rule    *netguard.Rule
	Version string // for receivers; "" is none
	Log     zerolog.Logger
	// Failpoint is called at the two moments at which a lost leader matters:
	// before an attempt, and after one that succeeded.
	Failpoint func(point string)
}

// errUnsigned says that the cluster has no secret for URLs yet: a body made now
// would be another one than later.
var errUnsigned = errors.New("URLs of outputs cannot be signed yet")

// The failpoints.
const (
	PointBefore = "webhook.before"
	PointAfter  = "webhook.after"
)

// Sender sends webhooks while its node leads, and test events at any time.
type Sender struct {
	cfg    Config
	poster *poster
	waits  []time.Duration // waits(), unless a test has others
	draw   func(n int64) int64
	tests  chan struct{} // capacity maxTests: held by each test event
	counts counts

	mu   sync.Mutex
	term *term // of the leadership; nil without one
}

// New returns a Sender. Close frees its connections.
func New(cfg Config) *Sender {
	return &Sender{
		cfg: cfg, poster: newPoster(cfg.Rule, cfg.Blobs, cfg.Version), waits: waits(), draw: rand.Int64N,
		tests: make(chan struct{}, maxTests),
	}
}

// CheckURL says why webhooks are not sent to a URL, or nothing. Where it leads is
// looked at again when it is dialled.
func (s *Sender) CheckURL(raw string) string { return s.cfg.Rule.CheckURL(raw, protocol.MaxURL) }

// Close closes the connections that are kept; it is called after Run and Test have
// returned.
func (s *Sender) Close() error {
	s.poster.client.CloseIdleConnections()
	return nil
}

// Run is one leadership: it sends what is pending until ctx ends, and returns when
// every attempt has ended. What was not recorded by then the next leader sends
// again.
func (s *Sender) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s.follow(ctx) // again when a snapshot replaced the tables
	}
}

// follow builds the schedule from a view and keeps it up with the changes.
func (s *Sender) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	cursor := s.cfg.Store.Subscribe(s.cfg.Store.View().Index())
	t := &term{Sender: s, wake: make(chan struct{}, 1), schedule: newSchedule()}
	s.cfg.Store.View().Jobs(protocol.JobID{}, false, func(row *state.Job) bool {
		t.schedule.see(row)
		return ctx.Err() == nil
	})
	s.hold(t)
	defer s.hold(nil)
	work.Go(func() { t.dispatch(ctx) })
	for {
		changes, err := cursor.Next(ctx)
		if err != nil {
			return
		}
		t.take(&changes)
	}
}

func (s *Sender) hold(t *term) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = t
}

// term is the schedule of one leadership.
type term struct {
	*Sender
	wake chan struct{} // capacity 1: the schedule has something to do

	mu       sync.Mutex
	schedule *schedule
}

// take follows a batch. Most have nothing for it, and take no lock.
func (t *term) take(c *state.Changes) {
	var rows []*state.Job
	for i := range c.List {
		if row := c.List[i].Job; row != nil && (row.Webhook() != nil || row.Extra != nil && row.Extra.CallbackURL != "") {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return
	}
	t.mu.Lock()
	for _, row := range rows {
		t.schedule.see(row)
	}
	t.mu.Unlock()
	t.nudge()
}

func (t *term) nudge() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// dispatch starts an attempt for each delivery whose time and turn has come. It
// returns when ctx has ended and every attempt has.
func (t *term) dispatch(ctx context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		nowMs := t.cfg.NowMs()
		t.mu.Lock()
		nextMs, ok := t.schedule.promote(nowMs)
		for e := t.schedule.take(); e != nil; e = t.schedule.take() {
			flights.Go(func() { t.fly(ctx, e) })
		}
		t.mu.Unlock()
		if ok {
			timer.Reset(time.Duration(nextMs-nowMs) * time.Millisecond)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-t.wake:
		}
	}
}

// fly is one attempt, from the row as it is now to its record.
func (t *term) fly(ctx context.Context, e *entry) {
	notBeforeMs := int64(0)
	defer func() {
		row := t.cfg.Store.Job(e.job)
		t.mu.Lock()
		t.schedule.land(e, row, notBeforeMs)
		t.mu.Unlock()
		t.nudge()
	}()
	row := t.cfg.Store.Job(e.job)
	if row == nil || !row.Owes() || row.Run != e.run {
		return
	}
	startedMs := t.cfg.NowMs()
	o, err := t.attempt(ctx, row, startedMs)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, blob.ErrNotFound):
		o = outcome{err: "the output is not stored any more"}
	case errors.Is(err, errGone):
		o = outcome{err: "the organisation is deleted"}
	case err != nil:
		t.cfg.Log.Warn().Err(err).Stringer("job", row.ID).Str("org", row.Org).Msg("a webhook could not be sent yet")
		notBeforeMs = t.cfg.NowMs() + oursPause.Milliseconds()
		return
	}
	final := err != nil || startedMs-row.Webhook().SinceMs >= maxAge.Milliseconds()
	t.record(ctx, row, startedMs, &o, final)
}

func (t *term) attempt(ctx context.Context, row *state.Job, startedMs int64) (outcome, error) {
	if startedMs-row.Webhook().SinceMs >= maxAge.Milliseconds() {
		return outcome{err: "it was pending for longer than " + maxAge.String()}, nil
	}
	secrets, err := t.secrets(ctx, row.Org)
	if err != nil {
		return outcome{}, err
	}
	secret := t.cfg.Store.View().Meta().Secret
	if secret == (output.Secret{}) && (row.Outcome.Output.Ref != nil || len(row.Outcome.Files) > 0) {
		return outcome{}, errUnsigned
	}
	body, err := NewBody(row, secret)
	if err != nil {
		return outcome{}, err
	}
	t.failpoint(PointBefore)
	o, err := t.poster.post(ctx, &message{
		id: protocol.WebhookID(row.ID, row.Run), url: row.Extra.CallbackURL, body: body, secrets: secrets, at: time.UnixMilli(startedMs),
	})
	if err == nil {
		t.counts.attempt(&o)
		if o.ok() {
			t.failpoint(PointAfter)
		}
	}
	return o, err
}

func (s *Sender) failpoint(point string) {
	if s.cfg.Failpoint != nil {
		s.cfg.Failpoint(point)
	}
}

// record writes down how an attempt went, and what follows from it.
func (t *term) record(ctx context.Context, row *state.Job, startedMs int64, o *outcome, final bool) {
	d := row.Webhook()
	r := &command.RecordDelivery{
		Job: row.ID[:], Run: row.Run, Attempt: d.Attempt + 1, StartedMs: startedMs, LatencyMs: o.latency.Milliseconds(),
		Status: uint32(o.status), Error: clip(o.err, protocol.WebhookError), Answer: o.answer,
	}
	next, again := wait(t.waits, int(d.Tries)+1, o, t.draw)
	switch {
	case o.ok():
		r.Outcome = command.RecordDelivery_DELIVERED
	case o.status == http.StatusGone:
		r.Outcome = command.RecordDelivery_DISABLED
	case again && !final:
		r.Outcome, r.NextMs = command.RecordDelivery_RETRY, t.cfg.NowMs()+next.Milliseconds()
	default:
		r.Outcome = command.RecordDelivery_FAILED
	}
	cmd := &command.Command{Op: &command.Command_RecordDelivery{RecordDelivery: r}}
	for {
		res, err := t.cfg.Propose(ctx, cmd)
		switch {
		case err == nil:
			if res[0].Code == "" {
				t.counts.end(r.Outcome)
			}
			return
		case ctx.Err() != nil:
			return
		}
		t.cfg.Log.Warn().Err(err).Stringer("job", row.ID).Msg("the attempt to deliver a webhook could not be recorded yet")
		if !pause(ctx, recordPause) {
			return
		}
	}
}

// pause waits for d, or less when ctx ends; it reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// counts is what happened since the process began.
type counts struct {
	delivered, failed, disabled atomic.Uint64 // deliveries that ended so
	answered, refused, silent   atomic.Uint64 // attempts: a 2xx, another status, no answer
}

func (c *counts) attempt(o *outcome) {
	switch {
	case o.ok():
		c.answered.Add(1)
	case o.status > 0:
		c.refused.Add(1)
	default:
		c.silent.Add(1)
	}
}

func (c *counts) end(o command.RecordDelivery_Outcome) {
	switch o {
	case command.RecordDelivery_DELIVERED:
		c.delivered.Add(1)
	case command.RecordDelivery_DISABLED:
		c.disabled.Add(1)
	case command.RecordDelivery_FAILED:
		c.failed.Add(1)
	}
}

// Stats is what a Sender has to do and did.
type Stats struct {
	Delivered, Failed, Disabled uint64 // deliveries that ended so, since the process began
	Answered, Refused, Silent   uint64 // attempts: a 2xx, another status, no answer
	Leads                       bool   // the rest is known
	Pending                     int    // deliveries, those of the next lines too
	Ready                       int    // that are due and wait for a place
	Flying                      int    // attempts under way
	OldestMs                    int64  // for how long the oldest is pending
}

// Stats returns the numbers of this moment.
func (s *Sender) Stats() Stats {
	c := &s.counts
	out := Stats{
		Delivered: c.delivered.Load(), Failed: c.failed.Load(), Disabled: c.disabled.Load(),
		Answered: c.answered.Load(), Refused: c.refused.Load(), Silent: c.silent.Load(),
	}
	s.mu.Lock()
	t := s.term
	s.mu.Unlock()
	if t == nil {
		return out
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out.Leads, out.Pending, out.Ready, out.Flying = true, len(t.schedule.entries), t.schedule.ready, t.schedule.flying
	if sinceMs := t.schedule.oldest(); sinceMs > 0 {
		out.OldestMs = max(s.cfg.NowMs()-sinceMs, 0)
	}
	return out
}
