package coordinator

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/command"
	"windlass/coordinator/consensus"
	"windlass/coordinator/state"
)

const (
	// checkpointPeriod is how long nodes may differ before they notice. The digest
	// of a million jobs takes a second or two of one processor on each node.
	checkpointPeriod = 3 * time.Minute

	// comparePeriod is how often digests are looked for; members tell theirs about
	// once a second.
	comparePeriod = time.Second

	// keptCheckpoints is how many checkpoints are compared: a node that lags tells
	// its digest later, and one that is further lags itself within minutes.
	keptCheckpoints = 8
)

// checkpoints compares the state of this node with the others'. The leader
// proposes a checkpoint now and then; each node hashes its state as it was right
// after that entry, tells the digest with its member status, and compares what
// the others tell.
//
// A node whose digest differs from one that a majority of the voters has halts: it
// would serve, and as leader decide by, something that never happened. Without such
// a majority nobody halts, and everybody says so: of two nodes that differ nobody
// knows which is right, so halting one is as likely to keep the wrong state as the
// right one, and halting both ends a service that is right on at least one of
// them. With three voters the third decides as soon as it answers.
type checkpoints struct {
	take    func() *state.View
	members func() []consensus.Member
	halt    func(error)
	log     zerolog.Logger

	told map[uint64]map[string]string // index -> server -> digest, as far as told
	said map[uint64]string            // index -> the newest alarm, so that each is said once

	mu     sync.Mutex
	newest consensus.Checkpoint // this node's
}

func newCheckpoints(take func() *state.View, members func() []consensus.Member, halt func(error), log zerolog.Logger) *checkpoints {
	return &checkpoints{
		take: take, members: members, halt: halt, log: log,
		told: make(map[uint64]map[string]string), said: make(map[uint64]string),
	}
}

// current is the newest checkpoint of this node, for its member status.
func (c *checkpoints) current() consensus.Checkpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// run hashes and compares until ctx ends.
func (c *checkpoints) run(ctx context.Context) {
	for pause(ctx, comparePeriod) {
		if view := c.take(); view != nil {
			c.hash(ctx, view)
		}
		c.compare()
	}
}

// hash computes the digest of a view, which must not be kept, unless ctx ends
// before.
func (c *checkpoints) hash(ctx context.Context, view *state.View) {
	sum, ok := view.DigestUntil(ctx.Done())
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// With the version of its encoding: nodes of two versions may not be able to
	// compare.
	c.newest = consensus.Checkpoint{Index: view.Index(), Digest: strconv.Itoa(state.DigestVersion) + ":" + hex.EncodeToString(sum[:])}
}

// compare takes in what the members tell, and judges every checkpoint again for
// which this node has a digest.
func (c *checkpoints) compare() {
	self, voters := "", make(map[string]bool)
	for _, m := range c.members() {
		if m.Self {
			self = m.Server
		}
		if m.Voter {
			voters[m.Server] = true
		}
		if at := m.Checkpoint; at.Index > 0 {
			if c.told[at.Index] == nil {
				c.told[at.Index] = make(map[string]string)
			}
			c.told[at.Index][m.Server] = at.Digest
		}
	}
	c.forget()
	for _, index := range slices.Sorted(maps.Keys(c.told)) {
		v := judge(c.told[index], self, voters)
		if v.alarm == "" || c.said[index] == v.alarm {
			continue
		}
		c.said[index] = v.alarm
		c.log.Error().Uint64("index", index).Interface("digests", c.told[index]).Msg(v.alarm)
		if v.halt {
			c.halt(&consensus.HaltError{
				Err:    fmt.Errorf("the state of this coordinator differs from that of the majority at log entry %d", index),
				Remedy: "remove its data directory and let it join again",
			})
		}
	}
}

// forget drops the oldest checkpoints.
func (c *checkpoints) forget() {
	kept := slices.Sorted(maps.Keys(c.told))
	for _, index := range kept[:max(0, len(kept)-keptCheckpoints)] {
		delete(c.told, index)
		delete(c.said, index)
	}
}

// verdict is what one checkpoint says about this node.
type verdict struct {
	alarm string // "" when all that were told agree
	halt  bool   // this node is the one that differs
}

// judge compares the digests of one checkpoint by server.
func judge(told map[string]string, self string, voters map[string]bool) verdict {
	mine, ok := told[self]
	if !ok {
		return verdict{}
	}
	version, _, _ := strings.Cut(mine, ":")
	votes := make(map[string]int)
	var others []string
	for _, server := range slices.Sorted(maps.Keys(told)) {
		digest := told[server]
		if v, _, _ := strings.Cut(digest, ":"); v != version {
			continue // of another version: it cannot be compared
		}
		if voters[server] {
			votes[digest]++
		}
		if digest != mine {
			others = append(others, server)
		}
	}
	if len(others) == 0 {
		return verdict{}
	}
	for digest, n := range votes {
		switch {
		case 2*n <= len(voters):
		case digest != mine:
			return verdict{alarm: "the state of this coordinator is not that of the majority: it halts", halt: true}
		default:
			return verdict{alarm: "the state of coordinator " + strings.Join(others, ", ") + " is not that of the majority: remove its data directory and let it join again"}
		}
	}
	return verdict{alarm: "coordinators " + strings.Join(slices.Sorted(slices.Values(append(others, self))), ", ") +
		" have different states, and no majority says which is right: start the others; if there are none, restore a backup"}
}

// proposeCheckpoints is the leader's part.
func (c *Coordinator) proposeCheckpoints(ctx context.Context) {
	for {
		if _, err := c.Checkpoint(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("states could not be compared yet")
		}
		if !pause(ctx, checkpointPeriod) {
			return
		}
	}
}

// Checkpoint makes all coordinators compare their states as of now; only the
// leader can. It returns the log index that their digests will carry.
func (c *Coordinator) Checkpoint(ctx context.Context) (uint64, error) {
	r, err := c.node.Proposer().Propose(ctx, &command.Command{Op: &command.Command_Checkpoint{Checkpoint: &command.Checkpoint{}}})
	if err != nil {
		return 0, err
	}
	return r[0].Index, nil
}
