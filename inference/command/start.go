package command

import (
	"time"

	"windlass/inference"
)

// phases marks the moments of a cold start; zero did not happen yet.
type phases struct {
	alive time.Time // first line or message
	load  time.Time // phase modelLoad
	told  bool
}

// alive notes the first sign of life.
func (in *Instance) alive() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.phases.alive.IsZero() {
		in.phases.alive = time.Now()
	}
}

// hello is the greeting: the child speaks the protocol and will say ready.
func (in *Instance) hello(m message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.greeted = true
	if !in.isReady { // Info does not change after the start
		in.engine, in.model = clip(m.text("engine"), maxStep), clip(m.text("model"), maxStep)
		in.keeps = m.boolean("checkpoint")
	}
}

// phase notes the start of the model load.
func (in *Instance) phase(m message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.greeted = true
	if m.text("name") == string(inference.PhaseModelLoad) && in.phases.load.IsZero() {
		in.phases.load = time.Now()
	}
}

// setReady notes the child's own word that it is ready.
func (in *Instance) setReady() {
	in.setSpoken()
	in.becomeReady()
}

// setSpoken notes that the child is known to work: jobs need not warm it up.
func (in *Instance) setSpoken() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.spoken = true
}

// aware reports whether the child speaks the protocol.
func (in *Instance) aware() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.greeted
}

// readsInput reports whether the child waits on its input, which is as good as
// being ready for a program that never says so.
func (in *Instance) readsInput() bool { return in.proc.ReadsStdin() }

// assumeReady lets the first job go to a child that did not say ready.
func (in *Instance) assumeReady() {
	in.alive()
	in.becomeReady()
}

// becomeReady tells the measured phases and lets Start return. Phases that did
// not happen are 0, and their sum is the time from spawn to here.
func (in *Instance) becomeReady() {
	now := time.Now()
	in.mu.Lock()
	if in.isReady {
		in.mu.Unlock()
		return
	}
	in.isReady = true
	ph := in.phases
	in.mu.Unlock()
	if ph.load.IsZero() || ph.load.Before(ph.alive) {
		// Without a mark all that follows the first sign is dependency load, unless
		// there was no greeting: then the first line is as good as ready.
		ph.load = now
	}
	for _, p := range []struct {
		name     inference.Phase
		from, to time.Time
	}{
		{inference.PhaseContainerStart, in.spawned, ph.alive},
		{inference.PhaseDependencyLoad, ph.alive, ph.load},
		{inference.PhaseModelLoad, ph.load, now},
	} {
		in.tell(inference.Event{Type: inference.EventPhase, Phase: p.name, Seconds: p.to.Sub(p.from).Seconds()})
	}
	close(in.ready)
}
