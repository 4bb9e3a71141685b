package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// stuckTransfers is how many election timeouts a transfer of leadership may
// refuse everything. raft itself gives up after one; hashicorp/raft#696 describes
// how it can forget to.
const stuckTransfers = 3

// transferWatchdog ends a leader whose transfer of leadership never ends: it would
// keep the leadership, and refuse every write, for ever.
type transferWatchdog struct {
	election time.Duration
	probe    func() error // proposes something harmless
	fail     func(error) error
	wake     chan struct{} // capacity 1: a proposal was refused because of a transfer
}

func newTransferWatchdog(election time.Duration, probe func() error, fail func(error) error) *transferWatchdog {
	return &transferWatchdog{election: election, probe: probe, fail: fail, wake: make(chan struct{}, 1)}
}

// answered is told what raft answered to a proposal.
func (w *transferWatchdog) answered(err error) {
	if errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// run watches until ctx ends.
func (w *transferWatchdog) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if !w.watch(ctx) {
			return
		}
	}
}

// watch follows one transfer by asking again and again, so that two refusals far
// apart are not taken for one; false: the watchdog is done.
func (w *transferWatchdog) watch(ctx context.Context) bool {
	began := time.Now()
	tick := time.NewTicker(w.election / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if !errors.Is(w.probe(), raft.ErrLeadershipTransferInProgress) {
			return true
		}
		if stuck := time.Since(began); stuck > stuckTransfers*w.election {
			w.fail(&HaltError{
				Err:    fmt.Errorf("leadership has been being handed on for %s, and every write is refused meanwhile", stuck.Round(time.Millisecond)),
				Remedy: remedyRestart,
			})
			return false
		}
	}
}
