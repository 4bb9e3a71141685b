// Package wire is the network between the coordinators of a run, made so that
// it can be broken: by the kernel, in network namespaces of the run's own, or by
// a proxy on every way where that needs rights that one does not have. Both do
// the same to whoever speaks over it. See ../DESIGN.md.
package wire

import (
	"os/exec"
	"time"
)

// Place is where a coordinator listens, as host:port.
type Place struct{ API, Peer string }

// Pair is a direction: what From sends to To, on whoever's connection.
type Pair struct{ From, To string }

// Network is what stands between coordinators. They are called by their names.
// Every fault lasts until Heal; clients and agents are never cut off.
type Network interface {
	// Place gives a coordinator its addresses. All have theirs before Connect.
	Place(name string) (Place, error)
	// Connect makes the ways between all of them.
	Connect() error
	// Start starts a process of a coordinator where its addresses are.
	Start(name string, cmd *exec.Cmd) error
	// Foreign reports whether the addresses are more than this host's loopback.
	Foreign() bool

	// Cut loses what is sent, in requests and answers. Nobody is told.
	Cut(pairs ...Pair) error
	// Lose loses a share of it, which TCP sends again.
	Lose(share float64, pairs ...Pair) error
	// Refuse ends the connections that something is sent on with a reset, and
	// lets none be made.
	Refuse(pairs ...Pair) error
	// Silence loses everything on the connections of now, in both directions and
	// without a reset, and lets new ones be made: they are half open.
	Silence(pairs ...Pair) error
	// Delay makes everything take so much longer, give or take jitter.
	Delay(delay, jitter time.Duration, pairs ...Pair) error
	// Double repeats what is sent on new connections, later and on a second one.
	Double(pairs ...Pair) error

	// Met is how much met a fault so far, in packets or whatever passes: a fault
	// that nothing met proves nothing.
	Met() (int64, error)
	// Heal makes everything whole.
	Heal() error
	// Close takes the network away, when nobody uses it any more.
	Close() error
}

// Both are the directions between two coordinators.
func Both(a, b string) []Pair { return []Pair{{a, b}, {b, a}} }

// Route tells a coordinator where to dial its peers instead: from their
// addresses to others. Those that are not named are dialed as they are.
type Route func(name string, detours map[string]string) error
