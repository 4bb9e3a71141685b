package coordinator

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/consensus"
	"windlass/coordinator/state"
)

// shownNames is how many of the blobs that are nowhere are named to others.
const shownNames = 3

// lack begins a round: what is not among the lacking has come. What this node
// said to have is not all here, unless all of it is nowhere.
func (f *filler) lack(lacking map[blob.Digest]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for d := range f.nowhere {
		if !lacking[d] {
			delete(f.nowhere, d)
		}
	}
	f.clean = false
	if len(lacking) == 0 {
		f.trouble = nil
	}
	if f.came.IsZero() {
		f.came = time.Now()
	}
	for d := range lacking {
		if !f.proven(d) {
			f.good = 0
		}
	}
}

// tried notes how a fetch ended.
func (f *filler) tried(ctx context.Context, d blob.Digest, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, before := f.nowhere[d]
	switch {
	case err == nil:
		delete(f.nowhere, d)
		f.came = time.Now()
	case ctx.Err() != nil:
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrNobody):
		if !before {
			f.nowhere[d] = time.Now()
		}
		f.trouble = err
	default:
		delete(f.nowhere, d)
		f.trouble = err
	}
}

// proven reports whether no coordinator that answers had a blob in two rounds.
// mu is held.
func (f *filler) proven(d blob.Digest) bool {
	since, ok := f.nowhere[d]
	return ok && time.Since(since) >= fillRetry
}

func (f *filler) isNowhere(d blob.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proven(d)
}

// settle ends a round: it returns true when everything that the view names is
// here, or is nowhere. gap is why the names are incomplete.
func (f *filler) settle(view *state.View, lacking []blob.Digest, gap error) bool {
	segments, ok := unreadable(gap)
	if !ok {
		return false
	}
	lost := 0
	for _, d := range lacking {
		if here, err := f.store.Local().Has(d); err == nil && here {
			continue
		}
		if !f.isNowhere(d) {
			return false
		}
		lost++
	}
	for _, u := range segments {
		// The jobs of a segment that is damaged here have lost their payloads with it.
		i := slices.IndexFunc(view.Segments(), func(g *state.Segment) bool { return g.Number == u.Segment })
		if !u.Damaged && i >= 0 && !f.isNowhere(view.Segments()[i].SHA256) {
			return false
		}
	}
	f.mu.Lock()
	fresh := f.good == 0
	f.good = max(f.good, view.Index())
	names := f.someNowhere()
	f.mu.Unlock()
	if lost > 0 && fresh {
		f.log.Error().Int("payloads", lost).Strs("digests", names).
			Msg("payloads are on no coordinator that answers: start the coordinator that has them; without it they are lost, and the jobs that name them must be submitted again")
	}
	return true
}

// someNowhere names a few of those that are nowhere, as the folder does. mu is held.
func (f *filler) someNowhere() []string {
	var out []string
	for d := range f.nowhere {
		if f.proven(d) {
			out = append(out, hex.EncodeToString(d[:6]))
		}
	}
	slices.Sort(out)
	return out[:min(len(out), shownNames)]
}

// advance notes that changes up to seen were looked at; those that are waited
// for are on their way.
func (f *filler) advance(seen uint64, waiting []awaited) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.clean = seen, len(waiting) == 0
	if f.clean {
		f.good = max(f.good, seen)
	} else if before := waiting[0].index; before > 0 {
		f.good = max(f.good, before-1)
	}
}

// copies is what this node tells the others about its payloads.
func (f *filler) copies() *consensus.Copies {
	applied := f.applied() // before the state is asked: it has at least this
	index := f.state.View().Index()
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &consensus.Copies{Index: f.good, Names: f.someNowhere()}
	if f.clean && f.seen >= index {
		c.Index = max(c.Index, applied)
	}
	for d := range f.nowhere {
		if f.proven(d) {
			c.Nowhere++
		}
	}
	c.Missing = max(0, int(f.missing.Load())-c.Nowhere)
	if c.Missing > 0 {
		c.IdleMs = time.Since(f.came).Milliseconds()
		if f.trouble != nil {
			c.Trouble = clip(f.trouble.Error())
		}
	}
	return c
}

// maxTrouble bounds a text that others keep of us.
const maxTrouble = 200

func clip(s string) string { return s[:min(len(s), maxTrouble)] }
