package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"windlass/protocol"
)

// flushLimit is how long the last results and returned attempts may take to
// reach a coordinator after the jobs were ended.
const flushLimit = 10 * time.Second

// Drain takes no new work, lets the jobs finish until ctx ends, gives the rest
// back unpunished, and stops every runtime. Results that no coordinator took
// stay in the journal for the next life. It is
// refused before Started is closed. Run goes on until its own context ends.
func (a *Agent) Drain(ctx context.Context) error {
	select {
	case <-a.started:
	default:
		return errors.New("cannot drain: the agent has not started")
	}
	a.log.Info().Int("attempts", len(a.table.list())).Msg("drain begins")
	a.table.drain()
	a.session.renew()
	a.reporter.dirty(true)
	if err := a.untilEmpty(ctx); err != nil {
		for _, at := range a.table.list() {
			if at.occupies() {
				at.stop(protocol.StopDrain)
			}
		}
	}
	grace, cancel := context.WithTimeout(context.Background(), endGrace)
	defer cancel()
	err := a.pool.Close(grace)
	flush, cancelFlush := context.WithTimeout(context.Background(), flushLimit)
	defer cancelFlush()
	err = errors.Join(err, a.untilEmpty(flush))
	if err != nil {
		return fmt.Errorf("cannot drain completely: %w", err)
	}
	a.log.Info().Msg("drained")
	return nil
}

// untilEmpty waits until nothing is held.
func (a *Agent) untilEmpty(ctx context.Context) error {
	for {
		empty, changed := a.table.empty()
		if empty {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d attempts are still held", len(a.table.list()))
		case <-a.life.Done():
			return errDetach
		}
	}
}
