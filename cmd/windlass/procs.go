package main

import "runtime"

// minProcs is the least number of Go processors of a coordinator. A thread that
// waits for the disk keeps its processor for a while, so that with two of them
// little else runs during the syncs of the log: with three voters more of them
// gave 20% more jobs per second on two cores (performance.md 2.1), and with one
// voter four need a fifth fewer syncs per job than two.
const minProcs = 4

// raiseProcs applies minProcs, unless the environment says how many there are to be.
func (a *app) raiseProcs() {
	if a.env("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < minProcs {
		runtime.GOMAXPROCS(minProcs)
	}
}
