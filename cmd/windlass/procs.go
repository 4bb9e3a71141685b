package main

import "runtime"

// minProcs is the least number of Go processors of a coordinator. A thread that
// waits for the disk keeps its processor for a while, so that with two of them
// little else runs during the syncs of the log (performance.md 2.1). On two cores
// four processors halve the syncs per job; eight measured no better than four.
const minProcs = 4

// raiseProcs applies minProcs, unless the environment says how many there are to be.
func (a *app) raiseProcs() {
	if a.env("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < minProcs {
		runtime.GOMAXPROCS(minProcs)
	}
}
