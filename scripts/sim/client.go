package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/protocol"
)

// clients submit, cancel and retry, and believe what they are told.
type clients struct {
	world *world
	jobs  map[int64]*request // by the number that the plan gives
	byID  map[protocol.JobID]*request

	numbers []int64 // of jobs, in the order of their submits
}

// request is one submit, with everything that its caller knows of it.
type request struct {
	number int64
	submit *command.Submit
	id     protocol.JobID
	bound  protocol.JobID // the job that an answer named
	acked  bool
	maybe  bool // some try may have had its effect
}

func newClients(w *world) *clients {
	return &clients{world: w, jobs: make(map[int64]*request), byID: make(map[protocol.JobID]*request)}
}

const (
	// clientLimit is how long a client waits for one answer.
	clientLimit = 15 * second
	// writeTime is for how long a submit is tried with the same ids (api). It has to
	// be short beside what keeps an ended job in memory, which is what knows the ids.
	writeTime = 15 * second
	// maxTries bounds how often a command is sent on with the same ids.
	maxTries = 6
	// variants is how many shapes an endpoint can take.
	variants = 8
	// shapeDeleted is the variant that is no endpoint.
	shapeDeleted = 7
)

func (c *clients) endpointName(n int64) string { return fmt.Sprintf("ep_%d", n) }

func (c *clients) orgOf(endpoint int64) string {
	if endpoint%int64(c.world.plan.Orgs) == 1 {
		return "org_other"
	}
	return protocol.OrgDefault
}

// setUp makes the endpoints, and the limits that a leader replicates.
func (c *clients) setUp() {
	for n := range int64(c.world.plan.Endpoints) {
		c.shape(n, 0)
	}
	c.makeOrgs()
	if c.world.plan.MaxBytes > 0 {
		c.insist(&command.Command{Op: &command.Command_PutSettings{PutSettings: &command.PutSettings{MaxBytes: c.world.plan.MaxBytes}}})
	}
}

// shape changes an endpoint. From FeatureAPI on a document pauses nothing.
func (c *clients) shape(n, variant int64) {
	doc := protocol.Endpoint{Kind: protocol.EndpointKind, ID: c.endpointName(n)}
	doc.Runtime.Kind = "command"
	switch variant {
	case 1:
		doc.Paused = true
	case 2:
		doc.MaxRunning = 2
	case 3:
		doc.QueueLimit = 10
	case 4:
		doc.Concurrency, doc.Warm.Max = 1, 1
	case 5:
		doc.Labels = map[string]string{"now": fmt.Sprint(c.world.now)}
	case 6:
		doc.Resources.GPUs = 1
	case shapeDeleted:
		c.insist(&command.Command{Op: &command.Command_DeleteEndpoint{DeleteEndpoint: &command.DeleteEndpoint{Org: c.orgOf(n), Id: doc.ID}}})
		return
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	c.insist(&command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{Org: c.orgOf(n), Id: doc.ID, Doc: b}}})
}

// insist repeats a command until it is answered.
func (c *clients) insist(cmd *command.Command) {
	c.write(cmd, 1<<30, func(command.Result, bool, error) {})
}

// pick is the node that a client talks to; writes that reach another one are
// sent on to the leader, so that is where they arrive.
func (c *clients) pick() *node {
	w := c.world
	if w.leader != nil && w.draws.client.IntN(8) > 0 {
		return w.leader
	}
	return w.nodes[w.draws.client.IntN(len(w.nodes))]
}

// write sends a command, and again with the same ids until its outcome is known.
// maybe says that some try may have had its effect although the answer is an error.
func (c *clients) write(cmd *command.Command, tries int, done func(r command.Result, maybe bool, err error)) {
	w := c.world
	maybe := false
	until := int64(0)
	if cmd.GetSubmit() != nil {
		until = w.now + writeTime
	}
	var try func(left int)
	try = func(left int) {
		do := func(d *broker.Driver) (func() (any, bool, error), func()) {
			ask := d.Write(cmd)
			return answerOr(ask), nil
		}
		call := w.net.send(nil, c.pick(), clientLimit, do, func(v any, err error) {
			if err == nil {
				done(v.(command.Result), maybe, nil)
				return
			}
			maybe = maybe || !nothingDone(err)
			if left == 0 || until != 0 && w.now >= until {
				done(command.Result{}, maybe, err)
				return
			}
			w.in(50+w.draws.client.Int64N(2*second), func() { try(left - 1) })
		})
		call.until = until
	}
	try(tries)
}

// nothingDone reports an error that says that the command was not and will not
// be applied.
func nothingDone(err error) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Details["outcome"] == "none"
}

// spec draws what a job is, always the same for one number.
func (c *clients) spec(number int64) *command.Submit {
	p := c.world.plan
	r := rand.New(rand.NewPCG(p.Seed^0x6a6f62, uint64(number)))
	endpoint := r.Int64N(int64(p.Endpoints))
	s := &command.Submit{
		Org: c.orgOf(endpoint), Endpoint: c.endpointName(endpoint), Priority: 1 + r.Uint32N(protocol.Priorities),
		Input:       &command.Payload{Inline: fmt.Appendf(nil, `{"job":%d}`, number)},
		ExecutionMs: 2000 + 40*p.RunMs, TtlMs: day, QueueLimit: uint32(p.Limit),
		MaxAttempts: r.Uint32N(5), MaxLosses: r.Uint32N(4), RetryTimeout: r.IntN(2) == 0,
	}
	switch r.IntN(6) {
	case 0:
		s.TtlMs = 1000 + r.Int64N(2*minute)
	case 1:
		s.TtlMs = 0
	}
	if r.IntN(3) == 0 {
		s.IdempotencyKey, s.PayloadHash = fmt.Sprintf("key %d", number), make([]byte, 32)
	}
	return s
}

func (c *clients) send(number int64, s *command.Submit) *request {
	w := c.world
	id := protocol.JobID(w.id(w.wall(0)))
	s.Job = id[:]
	q := &request{number: number, submit: s, id: id}
	c.byID[id] = q
	tries := w.draws.client.IntN(maxTries)
	c.write(&command.Command{Op: &command.Command_Submit{Submit: s}}, tries, func(r command.Result, maybe bool, err error) {
		q.maybe = maybe
		switch {
		case err == nil && r.Code == "":
			q.acked, q.bound = true, r.Job
			w.count.Acknowledged++
			w.check.acknowledged(q, r)
		case !maybe:
			w.check.declined(q)
		}
	})
	return q
}

func (c *clients) submit(number int64) {
	if c.jobs[number] == nil {
		c.numbers = append(c.numbers, number)
		c.jobs[number] = c.send(number, c.spec(number))
	}
}

// again submits once more under the same key: with the same payload, or with another.
func (c *clients) again(number int64, other bool) {
	q := c.jobs[number]
	if q == nil || q.submit.IdempotencyKey == "" {
		return
	}
	s := c.spec(number)
	if other {
		s.PayloadHash[0] = 1
	}
	c.send(number, s)
}

// target is the job that a client means, if it was ever told of one.
func (c *clients) target(number int64) (*request, protocol.JobID, bool) {
	q := c.jobs[number]
	if q == nil {
		return nil, protocol.JobID{}, false
	}
	if q.acked {
		return q, q.bound, true
	}
	return q, q.id, true
}

func (c *clients) cancel(number int64) {
	q, id, ok := c.target(number)
	if !ok {
		return
	}
	cmd := &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id[:], Org: q.submit.Org}}}
	c.write(cmd, 3, func(r command.Result, _ bool, err error) {
		if err == nil && r.Code == "" {
			c.world.check.cancelled(id, r)
		}
	})
}
