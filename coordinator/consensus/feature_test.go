package consensus

import (
	"testing"
	"time"

	"windlass/coordinator/command"
)

// TestOlderVersionIsNotTakenIn: a cluster whose level is above what a server
// supports would only stop it at the first entry that it does not know.
func TestOlderVersionIsNotTakenIn(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		level := command.FeatureBase
		for _, s := range w.seats {
			s.cfg.Feature = func() uint32 { return level }
			s.cfg.Describe = func() Description {
				return Description{Features: [2]uint32{command.FeatureBase, command.FeatureArchive}}
			}
		}
		w.start(0, 1, 2)
		w.voting(0, 1, 2)
		old := w.addSeat() // tells no features, as the first version
		w.seats[old].cfg.Join = []string{w.seats[w.others(w.leader())[0]].host}
		level = command.FeatureArchive
		w.start(old)
		w.until("a remedy", func() bool { return w.seats[old].log.has("start the version that the other coordinators run") })
		<-time.After(time.Minute) // virtual
		if n := len(w.seats[w.leader()].configuration().Servers); n != 3 {
			t.Errorf("%d servers, the older one was taken in", n)
		}
		w.kill(old)
		w.seats[old].cfg.Describe = w.seats[0].cfg.Describe
		w.start(old)
		w.until("it is taken in with the newer version", func() bool { return len(w.seats[w.leader()].configuration().Servers) == 4 })
	})
}
