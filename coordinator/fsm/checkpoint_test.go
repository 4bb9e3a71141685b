package fsm

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
)

func checkpoint() *command.Command {
	return &command.Command{Op: &command.Command_Checkpoint{Checkpoint: &command.Checkpoint{}}}
}

func setFeature(level uint32) *command.Command {
	return &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: level}}}
}

// TestCheckpointIsTheStateOfItsLog: raft groups logs differently on every node,
// and all of them must hash the same state.
func TestCheckpointIsTheStateOfItsLog(t *testing.T) {
	build := func(groups ...int) ([32]byte, uint64, *world) {
		w := ready(t)
		logs := []*raft.Log{
			w.log(submit(1)), w.log(lease(1, 0, 1, 1), checkpoint(), submit(2)), w.log(submit(3)), w.log(cancel(3, org1)),
		}
		for _, n := range groups {
			w.fsm.ApplyBatch(logs[:n])
			logs = logs[n:]
		}
		view := w.store.TakeCheckpoint()
		if view == nil {
			t.Fatalf("groups %v: no checkpoint", groups)
		}
		if w.store.TakeCheckpoint() != nil {
			t.Errorf("groups %v: a checkpoint is kept after it was taken", groups)
		}
		return view.Digest(), view.Index(), w
	}
	digest, index, single := build(1, 1, 1, 1)
	for _, groups := range [][]int{{4}, {2, 2}, {1, 3}, {3, 1}} {
		d, i, w := build(groups...)
		if d != digest || i != index {
			t.Errorf("groups %v: another state at the checkpoint: index %d, want %d", groups, i, index)
		}
		if w.store.View().Digest() != single.store.View().Digest() || w.store.View().Index() != single.store.View().Index() {
			t.Errorf("groups %v: another state at the end", groups)
		}
	}
	if digest == single.store.View().Digest() {
		t.Error("the checkpoint is not of its own log but of the newest")
	}
}

func TestCheckpointChangesNothing(t *testing.T) {
	w := populated(t)
	w.again(checkpoint())
}

func TestFeatureLevelOnlyRises(t *testing.T) {
	w := ready(t)
	for level := range command.FeatureMax {
		w.ok(setFeature(level + 1))
	}
	w.again(setFeature(command.FeatureMax))
	w.again(setFeature(command.FeatureBase))
	if got := w.store.View().Meta().Feature; max(got, command.FeatureBase) != command.FeatureMax {
		t.Errorf("level is %d, want %d", got, command.FeatureMax)
	}
}

// TestNewerFeatureLevelHalts: a node must not go on in a cluster whose next
// entries it may not know.
func TestNewerFeatureLevelHalts(t *testing.T) {
	w := ready(t)
	err := halts(t, func() { w.do(setFeature(command.FeatureMax + 1)) })
	var level *command.FeatureError
	if !errors.As(err, &level) || !errors.Is(err, command.ErrUnknown) {
		t.Fatalf("halted with %v", err)
	}
	if !strings.Contains(err.Error(), "start the version") {
		t.Errorf("no remedy in %q", err)
	}
}
