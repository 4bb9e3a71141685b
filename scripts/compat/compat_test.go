//go:build compat

package compat

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/inference/builtin"
)

// jobsPerStage is the load that every mix of versions has to carry: enough that
// each of them submits, leases, finishes and reads many times.
const jobsPerStage = 40

const (
	previousVersion = "previous"
	currentVersion  = "current"
)

// TestVersionsMix upgrades a cluster of the version before, one coordinator at a
// time and under load, goes back and forth on the way, lets each version lead the
// other, and goes back as far as the feature level allows. No call may fail,
// every acknowledged job has its result, and equal versions have equal states.
func TestVersionsMix(t *testing.T) {
	current, previous := binaries(t)
	c := newCluster(t)
	for _, n := range c.nodes {
		c.run(n, previous, previousVersion)
	}
	c.whole()
	for _, e := range builtin.SampleEndpoints() {
		if e.ID != endpoint {
			continue
		}
		if _, err := c.client.ApplyEndpoint(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	c.agent.start(t, previous)
	load := startLoad(c)
	defer load.stop()
	load.more(jobsPerStage)

	// One of the current version among two, and back, and again.
	first := c.nodes[0]
	c.lead(c.nodes[1])
	for _, v := range []struct{ binary, name string }{{current, currentVersion}, {previous, previousVersion}, {current, currentVersion}} {
		c.roll(first, v.binary, v.name)
		load.more(jobsPerStage)
	}
	c.lead(first) // the current version leads the one before
	load.more(jobsPerStage)
	c.roll(c.nodes[1], current, currentVersion)
	c.lead(c.nodes[2]) // and the other way round
	load.more(jobsPerStage)
	supported := c.supports(c.nodes[2])
	c.roll(c.nodes[2], current, currentVersion)
	load.more(jobsPerStage)
	c.agent.stop(t)
	c.agent.start(t, current)
	load.more(jobsPerStage)

	if supported >= command.FeatureMax {
		for _, n := range c.nodes {
			c.roll(n, previous, previousVersion)
			load.more(jobsPerStage)
		}
	} else {
		c.refuses(c.nodes[2], previous, current)
		load.more(jobsPerStage)
	}
	load.end(t)
	c.same()
	c.agent.stop(t)
	for _, n := range c.nodes {
		n.stop(t)
	}
}
