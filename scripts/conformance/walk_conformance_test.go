//go:build conformance

package conformance

import "testing"

// item is one or several items of the list that one check shows. Its name begins
// with their numbers, "086" or "086-091".
type item struct {
	name  string
	check func(*testing.T, *world)
}

func items() []item {
	var all []item
	for _, part := range [][]item{transport(), submits(), replies(), statuses(), states(), resources(), ends(), control(), webhooks(), refusals(), practice()} {
		all = append(all, part...)
	}
	return all
}

func walk(t *testing.T, w *world) {
	w.gpu = playAgent(t, w)
	for _, i := range items() {
		t.Run(i.name, func(t *testing.T) { i.check(t, w) })
	}
}

// TestOneCoordinator walks the list against one coordinator.
func TestOneCoordinator(t *testing.T) { walk(t, start(t, build(t), "1")) }

// TestThroughAFollower walks it against a coordinator that does not lead.
func TestThroughAFollower(t *testing.T) { walk(t, start(t, build(t), "3")) }
