package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"windlass/coordinator/command"
)

// kind is what an action does.
type kind string

// The actions of clients, and the faults.
const (
	doSubmit   kind = "submit"         // job A
	doAgain    kind = "resubmit"       // the key of job A with a new id; B=1: with another payload
	doCancel   kind = "cancel"         // job A
	doRetry    kind = "retry"          // job A
	doEndpoint kind = "endpoint"       // endpoint A becomes variant B
	doHold     kind = "pause"          // job A, which is resumed B ms later
	doPurge    kind = "purge"          // endpoint A
	doClose    kind = "pause endpoint" // A, for B ms
	doRead     kind = "read"           // job A
	doCheck    kind = "checkpoint"     // the digests of all replicas are compared
	doDepose   kind = "depose"         // the leader steps down B ms later than it is replaced
	doKill     kind = "kill"           // the leader's process is gone for B ms
	doFreeze   kind = "freeze"         // the leader stops for B ms and wakes up deposed
	doRestart  kind = "restart"        // replica A restarts, is away for B ms; C=1: empty
	doLag      kind = "lag"            // replica A hears nothing for B ms
	doSnapshot kind = "snapshot"       // replica A writes a snapshot
	doInstall  kind = "install"        // replica A gets the newest snapshot of another
	doRefuse   kind = "refuse"         // the log refuses for B ms
	doMaybe    kind = "maybe"          // for B ms the log does not say what it did
	doStall    kind = "stall"          // the log takes up to C ms longer for B ms
	doNet      kind = "loss"           // for B ms C of 100 messages are lost, repeated or late
	doCut      kind = "agent cut"      // agent A reaches nobody for B ms
	doCrash    kind = "agent crash"    // agent A restarts B ms later, C=1: its host too
	doPause    kind = "agent pause"    // agent A stops for B ms
	doDrain    kind = "agent drain"    // agent A drains, restarts B ms later
	doForget   kind = "forget"         // replica A passes over cancels for B ms: a bug, for the simulator's own test
	doVault    kind = "vault"          // for B ms the blob store fails
	doUpgrade  kind = "upgrade"        // replica A restarts, B ms later, in the newest version
	doClock    kind = "clock"          // replica A's wall clock is C ms off for B ms
)

// action is one thing that happens to the system from outside.
type action struct {
	At      int64 // virtual ms
	Kind    kind
	A, B, C int64
}

func (a action) String() string {
	return fmt.Sprintf("%10.3fs %-12s a=%d b=%d c=%d", float64(a.At)/1000, a.Kind, a.A, a.B, a.C)
}

// fault reports whether the action is a fault and not a client's.
func (a action) fault() bool {
	switch a.Kind {
	case doSubmit, doAgain, doCancel, doRetry, doHold, doPurge, doClose, doRead, doEndpoint, doCheck, doSnapshot:
		return false
	}
	return true
}

// plan is everything that a run is made of: equal plans give equal runs, bit
// for bit. What the network and the log do between two actions is drawn from
// streams that begin with the seed.
type plan struct {
	Seed      uint64
	Agents    int
	Slots     int // of an agent, at most
	Endpoints int
	Orgs      int
	Replicas  int
	Span      int64    // ms during which actions happen; afterwards everything is healed
	Commit    int64    // ms, the most that a commit takes normally
	Latency   int64    // ms, the most that a message takes normally
	RunMs     int64    // how long a job runs on average
	Limit     int64    // queued jobs that an organisation may have; 0: the default
	MaxBytes  int64    // of the state; 0: no limit
	After     int64    // ms that an ended job stays in memory
	Keep      int64    // ms for which it can be found
	Kept      int      // how many ended jobs stay in memory at most
	Old       []uint32 // the feature levels of replicas that begin with an older version
	Actions   []action
}

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// newPlan draws a plan. Most are short and dense, because faults find more
// where much happens; the long ones find what only time does.
func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	p := &plan{
		Seed: seed, Agents: 1 + r.IntN(6), Endpoints: 1 + r.IntN(4), Orgs: 1 + r.IntN(2),
		Slots: 4, Replicas: 3, Commit: 8, Latency: 1 + r.Int64N(30), RunMs: 50 << r.IntN(9),
	}
	spans := []int64{5 * minute, 20 * minute, hour, 4 * hour, 12 * hour, 48 * hour}
	p.Span = spans[r.IntN(len(spans))]
	if r.IntN(3) == 0 {
		p.Limit = 5 + r.Int64N(60)
	}
	if r.IntN(5) == 0 {
		p.MaxBytes = 60_000 + r.Int64N(400_000)
	}
	d := &draft{plan: p, r: r, burst: 80, width: 20 * second, checks: 8}
	jobs := 100 + r.IntN(1500)
	if seed%3 == 0 {
		// Crowds: whole batches of everything, in little time.
		p.Span, p.Agents, p.Slots, p.RunMs = 30*second+r.Int64N(minute), 4+r.IntN(5), 64, 2+r.Int64N(40)
		p.Limit, p.MaxBytes = p.Limit*100, 0
		p.Commit = 20 + r.Int64N(200)
		d.burst, d.width, d.checks = 4000, second, 3
		jobs = 4000 + r.IntN(20000)
	}
	d.work(jobs)
	if r.IntN(8) > 0 { // some runs are calm: nothing may go wrong in them
		d.faults(r.IntN(60))
	}
	for at := p.Span / d.checks; at < p.Span; at += p.Span / d.checks {
		d.add(action{At: at, Kind: doCheck})
	}
	d.retention()
	d.versions()
	slices.SortStableFunc(p.Actions, func(a, b action) int { return cmp.Compare(a.At, b.At) })
	return p
}

// draft is a plan in the making.
type draft struct {
	plan   *plan
	r      *rand.Rand
	burst  int64 // submits of one burst, at most
	width  int64 // ms of one burst, at most
	checks int64 // in how many parts checkpoints divide the time
}

func (d *draft) add(a action) { d.plan.Actions = append(d.plan.Actions, a) }

// work draws what clients do, in bursts.
func (d *draft) work(jobs int) {
	r := d.r
	for job := int64(0); job < int64(jobs); {
		at := r.Int64N(d.plan.Span)
		burst := min(1+r.Int64N(d.burst), int64(jobs)-job)
		width := 1 + r.Int64N(d.width)
		if r.IntN(10) == 0 {
			d.add(action{At: at + width - r.Int64N(width), Kind: doPurge, A: r.Int64N(int64(d.plan.Endpoints))})
		}
		for range burst {
			when := at + r.Int64N(width)
			d.add(action{At: when, Kind: doSubmit, A: job})
			d.meddle(job, when)
			job++
		}
	}
	for range r.IntN(8) {
		d.add(action{At: r.Int64N(d.plan.Span), Kind: doEndpoint, A: r.Int64N(int64(d.plan.Endpoints)), B: r.Int64N(variants)})
	}
	for range r.IntN(5) {
		d.add(action{At: r.Int64N(d.plan.Span), Kind: doClose, A: r.Int64N(int64(d.plan.Endpoints)), B: 1 << (8 + r.IntN(12))})
	}
}

// meddle draws what a client does with its job after it submitted it.
func (d *draft) meddle(job, at int64) {
	r := d.r
	later := func() int64 { return at + r.Int64N(1<<(4+r.IntN(16))) }
	switch r.IntN(28) {
	case 0, 1:
		d.add(action{At: later(), Kind: doCancel, A: job})
	case 2:
		d.add(action{At: later(), Kind: doRetry, A: job})
	case 3, 4:
		d.add(action{At: later(), Kind: doAgain, A: job})
	case 5:
		d.add(action{At: later(), Kind: doAgain, A: job, B: 1})
	case 6:
		d.add(action{At: later(), Kind: doCancel, A: job})
		d.add(action{At: later(), Kind: doRetry, A: job})
	case 7:
		if d.plan.Span > day {
			d.add(action{At: at + 20*hour + r.Int64N(10*hour), Kind: doAgain, A: job})
		}
	case 8, 9:
		d.add(action{At: later(), Kind: doHold, A: job, B: 1 << (4 + r.IntN(16))})
	case 10, 11: // long after its end, when it left memory
		long := at + r.Int64N(d.plan.Span)
		d.add(action{At: long, Kind: doRetry, A: job})
		d.add(action{At: long + r.Int64N(second), Kind: doRead, A: job})
	case 12:
		d.add(action{At: at + r.Int64N(d.plan.Span), Kind: doRead, A: job})
	}
}

// retention draws when ended jobs leave memory and the archive.
func (d *draft) retention() {
	r, p := d.r, d.plan
	p.After = []int64{35 * second, 2 * minute, 20 * minute, 6 * hour}[r.IntN(4)]
	p.Keep = p.After * (2 + r.Int64N(100))
	p.Kept = []int{20, 300, 100_000}[r.IntN(3)]
	for range r.IntN(4) {
		d.add(action{At: r.Int64N(p.Span), Kind: doVault, B: 1 << (8 + r.IntN(12))})
	}
}

// versions draws a cluster that begins in an older version, and its upgrade.
func (d *draft) versions() {
	if d.r.IntN(3) > 0 {
		return
	}
	for n := range d.plan.Replicas {
		d.plan.Old = append(d.plan.Old, command.FeatureBase+d.r.Uint32N(command.FeatureMax-command.FeatureBase+1))
		d.add(action{At: d.r.Int64N(d.plan.Span), Kind: doUpgrade, A: int64(n), B: 1 << (6 + d.r.IntN(10))})
	}
}

// faults draws n faults. Half of them come in clusters, because the worst
// happens while the system still recovers from something else.
func (d *draft) faults(n int) {
	at := int64(0)
	for i := range n {
		if i%2 == 0 {
			at = d.r.Int64N(d.plan.Span)
		} else {
			at += d.r.Int64N(40 * second)
		}
		d.fault(at)
	}
}

func (d *draft) fault(at int64) {
	r := d.r
	// From a tenth of a second to some minutes, short ones as often as long ones.
	span := int64(100) << r.IntN(12)
	agent, replica := r.Int64N(int64(d.plan.Agents)), r.Int64N(int64(d.plan.Replicas))
	switch r.IntN(22) {
	case 0, 1:
		d.add(action{At: at, Kind: doDepose, B: r.Int64N(3 * second)})
	case 2, 3:
		d.add(action{At: at, Kind: doKill, B: span})
	case 4:
		d.add(action{At: at, Kind: doFreeze, B: min(span, minute)})
	case 5:
		d.add(action{At: at, Kind: doRestart, A: replica, B: span, C: r.Int64N(2)})
	case 6:
		d.add(action{At: at, Kind: doLag, A: replica, B: span})
	case 7:
		d.add(action{At: at, Kind: doSnapshot, A: replica})
		d.add(action{At: at + 1, Kind: doInstall, A: (replica + 1) % int64(d.plan.Replicas)})
	case 8:
		d.add(action{At: at, Kind: doRefuse, B: min(span, minute)})
	case 9, 10:
		d.add(action{At: at, Kind: doMaybe, B: min(span, minute)})
	case 11:
		d.add(action{At: at, Kind: doStall, B: min(span, minute), C: 10 << r.IntN(9)})
	case 12, 13:
		d.add(action{At: at, Kind: doNet, B: span, C: 1 + r.Int64N(30)})
	case 14, 15:
		d.add(action{At: at, Kind: doCut, A: agent, B: span})
	case 16, 17:
		d.add(action{At: at, Kind: doCrash, A: agent, B: span, C: r.Int64N(2)})
	case 18:
		d.add(action{At: at, Kind: doPause, A: agent, B: span})
	case 19:
		d.add(action{At: at, Kind: doDrain, A: agent, B: span})
	default:
		offsets := []int64{-day, -hour, -3 * second, 3 * second, hour, day}
		d.add(action{At: at, Kind: doClock, A: replica, B: span, C: offsets[r.IntN(len(offsets))]})
	}
}
