// Package ledger follows the replicated log by its commands and what they were
// answered, with rules written from the promises (reliability.md 1) and nothing
// of the state machine. Both judges use it: that of the simulator while a run
// goes on, and that of chaos over what the coordinators wrote down.
package ledger

import (
	"windlass/coordinator/command"
	"windlass/protocol"
)

// Config says how a ledger is used. N is what its user notes of each job.
type Config[N any] struct {
	// Fail is told of each broken promise, "I5". It may return.
	Fail func(promise, format string, args ...any)
	// Changed is told of each job whose state changed, after it did. before is
	// StatusUnknown for a new one.
	Changed func(j *Job[N], before protocol.Status)
	// Granted is told of each new attempt.
	Granted func(j *Job[N])
	// Lost is told of each lease that is taken away as lost, before it is.
	Lost func(j *Job[N], detail string)
	// Whole says that the log is known from its beginning: nothing exists that was
	// not seen to begin. Otherwise a job that is not known is passed over.
	Whole bool
	// QueueLimit is that of an organisation where a submit names none; 0: the default.
	QueueLimit int
}

// Ledger is what a log says. It belongs to one goroutine.
type Ledger[N any] struct {
	cfg Config[N]

	Index   uint64 // of the newest entry
	ClockMs int64
	Feature uint32

	jobs     map[protocol.JobID]*Job[N]
	live     map[protocol.JobID]*Job[N]
	waiting  map[string]int // jobs that wait, by organisation; paused ones too
	limits   map[string]int // of organisations that have one of their own
	keys     map[string]*binding
	agents   map[protocol.AgentID]protocol.Incarnation
	names    map[protocol.AgentID]string
	holders  map[protocol.AgentID][]*Job[N]
	segments map[uint64]*command.Segment
	newest   uint64 // segment
}

// Where a job that ended can be found.
const (
	InMemory  = iota
	Archived  // in a segment, in the state of Index
	Forgotten // nowhere
)

// Job is a job as the log's answers tell it.
type Job[N any] struct {
	ID     protocol.JobID
	Submit *command.Submit
	Note   N

	Index       uint64 // of the entry that changed it last
	Status      protocol.Status
	Attempt     uint32
	Run         uint32
	Failures    uint32
	Losses      uint32
	Agent       protocol.AgentID // with Status initializing
	Incarnation protocol.Incarnation
	Adoptable   bool
	CreatedMs   int64 // by the log's clock, as all times
	WaitsFrom   int64 // the ttl counts from here
	NotBeforeMs int64
	EndedMs     int64
	Place       int // InMemory, Archived or Forgotten
}

// Leased reports whether an agent holds it.
func (j *Job[N]) Leased() bool { return j.Status == protocol.StatusInitializing }

// waits reports whether it counts as waiting.
func waits(s protocol.Status) bool { return s == protocol.StatusQueued || s == protocol.StatusPaused }

// New returns a ledger of an empty log.
func New[N any](cfg Config[N]) *Ledger[N] {
	return &Ledger[N]{
		cfg: cfg, Feature: command.FeatureBase,
		jobs: make(map[protocol.JobID]*Job[N]), live: make(map[protocol.JobID]*Job[N]),
		waiting: make(map[string]int), limits: make(map[string]int), keys: make(map[string]*binding),
		agents: make(map[protocol.AgentID]protocol.Incarnation), names: make(map[protocol.AgentID]string),
		holders: make(map[protocol.AgentID][]*Job[N]), segments: make(map[uint64]*command.Segment),
	}
}

// Job returns a job that the log made, or nil.
func (l *Ledger[N]) Job(id protocol.JobID) *Job[N] { return l.jobs[id] }

// Live returns the jobs that have not ended. It is the ledger's own map.
func (l *Ledger[N]) Live() map[protocol.JobID]*Job[N] { return l.live }

// Held returns the jobs that an agent holds, in the order in which it got them.
// It is the ledger's own list.
func (l *Ledger[N]) Held(agent protocol.AgentID) []*Job[N] { return l.holders[agent] }

// Incarnation returns the registered life of an agent.
func (l *Ledger[N]) Incarnation(agent protocol.AgentID) protocol.Incarnation { return l.agents[agent] }

// Name returns the name of an agent, or its id.
func (l *Ledger[N]) Name(agent protocol.AgentID) string {
	if n := l.names[agent]; n != "" {
		return n
	}
	return agent.String()
}

// Begin begins an entry with the clock of its batch.
func (l *Ledger[N]) Begin(index uint64, clockMs int64) {
	l.Index, l.ClockMs = index, max(l.ClockMs, clockMs)
}

// Apply follows one command of the entry.
func (l *Ledger[N]) Apply(c *command.Command, r *command.Result) {
	if need := command.Feature(c); need > l.Feature && (l.cfg.Whole || l.Feature > command.FeatureBase) {
		l.cfg.Fail("I17", "entry %d has a command of feature level %d, and the level is %d", l.Index, need, l.Feature)
	}
	if op, ok := c.GetOp().(*command.Command_Submit); ok {
		l.submit(op.Submit, r)
		return
	}
	if r.Code != "" {
		return
	}
	switch op := c.GetOp().(type) {
	case *command.Command_Register:
		l.register(op.Register, r)
	case *command.Command_Evict:
		l.evict(op.Evict, r)
	case *command.Command_Archive:
		l.archive(op.Archive, r)
	case *command.Command_Purge:
		l.purge(op.Purge, r)
	default:
		if !r.Replayed {
			l.changed(c, r)
		}
	}
}

// changed follows a command that says that it changed something.
func (l *Ledger[N]) changed(c *command.Command, r *command.Result) {
	switch op := c.GetOp().(type) {
	case *command.Command_Lease:
		l.grant(op.Lease.GetJob(), op.Lease.GetExpectAttempt(), op.Lease.GetAgent(), op.Lease.GetIncarnation(), r, false)
	case *command.Command_Adopt:
		l.grant(op.Adopt.GetJob(), op.Adopt.GetFromAttempt(), op.Adopt.GetAgent(), op.Adopt.GetIncarnation(), r, true)
	case *command.Command_Finish:
		l.finish(op.Finish)
	case *command.Command_Release:
		l.release(op.Release)
	case *command.Command_ExpireTtl:
		l.expire(op.ExpireTtl.GetJob())
	case *command.Command_Cancel:
		l.cancel(op.Cancel.GetJob())
	case *command.Command_Pause:
		l.hold(op.Pause.GetJob(), protocol.StatusQueued, protocol.StatusPaused)
	case *command.Command_Resume:
		l.hold(op.Resume.GetJob(), protocol.StatusPaused, protocol.StatusQueued)
	case *command.Command_Reopen:
		l.reopen(op.Reopen.GetJob(), r)
	case *command.Command_PutOrg:
		l.limits[op.PutOrg.GetId()] = int(op.PutOrg.GetQueueLimit())
	case *command.Command_SetFeature:
		if level := op.SetFeature.GetLevel(); level <= l.Feature && l.cfg.Whole {
			l.cfg.Fail("I17", "entry %d set feature level %d, and it was %d", l.Index, level, l.Feature)
		}
		l.Feature = max(l.Feature, op.SetFeature.GetLevel())
	case *command.Command_Recall:
		l.recall(op.Recall)
	case *command.Command_RecordDelivery:
		l.touch(op.RecordDelivery.GetJob())
	case *command.Command_Redeliver:
		l.touch(op.Redeliver.GetJob())
	case *command.Command_DropSegment:
		for _, n := range op.DropSegment.GetNumbers() {
			delete(l.segments, n)
		}
	}
}

// of returns a job that a command changed; nil: it is not known.
func (l *Ledger[N]) of(raw []byte, promise, what string) *Job[N] {
	j := l.jobs[protocol.JobID(raw)]
	if (j == nil || j.Place != InMemory) && l.cfg.Whole {
		l.cfg.Fail(promise, "entry %d %s job %s, which does not exist", l.Index, what, protocol.JobID(raw))
	}
	if j == nil || j.Place != InMemory {
		return nil
	}
	return j
}

// touch follows a command that changes a job's row and nothing that is followed here.
func (l *Ledger[N]) touch(raw []byte) {
	if j := l.of(raw, "I8", "changed"); j != nil {
		j.Index = l.Index
	}
}

// become changes a job's status, and what is counted by it.
func (l *Ledger[N]) become(j *Job[N], status protocol.Status) {
	before, org := j.Status, j.Submit.GetOrg()
	if waits(before) {
		l.waiting[org]--
	}
	if waits(status) {
		l.waiting[org]++
	}
	if before == protocol.StatusInitializing {
		l.dropped(j)
	}
	j.Status, j.Index = status, l.Index
	j.Adoptable = false
	switch {
	case status.Terminal():
		delete(l.live, j.ID)
		j.EndedMs, j.NotBeforeMs = l.ClockMs, 0
	default:
		l.live[j.ID] = j
	}
	l.keep(j)
	if l.cfg.Changed != nil {
		l.cfg.Changed(j, before)
	}
}

func (l *Ledger[N]) dropped(j *Job[N]) {
	list := l.holders[j.Agent]
	for i, h := range list {
		if h == j {
			l.holders[j.Agent] = append(list[:i], list[i+1:]...)
			break
		}
	}
	j.Agent, j.Incarnation = protocol.AgentID{}, protocol.Incarnation{}
}
