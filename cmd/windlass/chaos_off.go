//go:build !chaos

package main

import "windlass/coordinator"

// underChaos is the seam of scripts/chaos: without the tag chaos, clocks and
// addresses are what they are.
func underChaos(o coordinator.Options) coordinator.Options { return o }
