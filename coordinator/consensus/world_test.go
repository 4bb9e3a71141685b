package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// world is coordinators in virtual time: each has a seat, which is an address
// and a disk, and is up or down.
type world struct {
	t     *testing.T
	wire  *wire
	seats []*seat
}

type seat struct {
	host   string
	memory *Memory
	cfg    Config // what differs from the usual
	log    *journal
	port   *wirePort
	*member
}

// virtual runs a test in a bubble with n seats, all down.
func virtual(t *testing.T, n int, test func(*testing.T, *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, wire: newWire()}
		for range n {
			w.addSeat()
		}
		t.Cleanup(func() {
			for i, s := range w.seats {
				if s.member != nil {
					w.kill(i)
				}
			}
			pass(2 * rpcTimeout) // raft leaves some of its questions to their timeout
		})
		test(t, w)
	})
}

// pass lets virtual time pass.
func (w *world) pass(d time.Duration) { pass(d) }

func (w *world) addSeat() int {
	i := len(w.seats)
	w.seats = append(w.seats, &seat{host: fmt.Sprintf("host%d:7401", i), memory: NewMemory(), log: &journal{}})
	return i
}

func (w *world) hosts() []string {
	var out []string
	for _, s := range w.seats {
		out = append(out, s.host)
	}
	return out
}

// start opens the seat's node; seats without a Join know the first three.
func (w *world) start(seats ...int) {
	w.t.Helper()
	for _, i := range seats {
		s := w.seats[i]
		cfg := s.cfg
		cfg.Memory, s.port = s.memory, w.wire.listen(s.host, s.memory.Self)
		cfg.Port = s.port
		if cfg.Expect == 0 {
			cfg.Expect = 3
		}
		if cfg.Join == nil {
			cfg.Join = w.hosts()[:min(3, len(w.seats))]
		}
		if cfg.Timeouts.Commit == 0 {
			cfg.Timeouts.Commit = 100 * time.Millisecond // most of what an idle cluster costs a test
		}
		cfg.Log = zerolog.New(s.log)
		f := &ledger{}
		cfg.FSM = f
		n, err := Open(cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		s.member = &member{n, f}
		s.port.serve()
	}
}

// stop ends a node as an operator does.
func (w *world) stop(i int) {
	w.t.Helper()
	s := w.seats[i]
	s.end(w.t)
	s.port.end()
	s.member = nil
}

// kill ends a node without a word to anybody.
func (w *world) kill(i int) {
	w.t.Helper()
	s := w.seats[i]
	w.wire.isolate(s.host, true)
	s.end(w.t)
	s.port.end()
	w.wire.isolate(s.host, false)
	s.member = nil
}

// wipe replaces the disk of a seat that is down.
func (w *world) wipe(i int) { w.seats[i].memory = NewMemory() }

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for began := time.Now(); !ok(); pass(20 * time.Millisecond) {
		if time.Since(began) > 5*time.Minute {
			for i, s := range w.seats {
				if s.member != nil {
					w.t.Logf("seat %d: %s term %d last %d applied %v\n%s", i, s.raft.State(), s.raft.CurrentTerm(), s.raft.LastIndex(), s.fsm.values(), s.log.tail())
				}
			}
			w.t.Fatal("not in five minutes: " + what)
		}
	}
}

// leader is a seat that leads and has a quorum.
func (w *world) leader() int {
	w.t.Helper()
	found := -1
	w.until("a leader", func() bool {
		found = slices.IndexFunc(w.seats, func(s *seat) bool { return s.member != nil && s.IsLeader() })
		if found < 0 {
			return false
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		return w.seats[found].VerifyLeader(ctx) == nil
	})
	return found
}

// put writes through whoever leads until it is acknowledged.
func (w *world) put(values ...int64) {
	w.t.Helper()
	for _, v := range values {
		w.until(fmt.Sprintf("write of %d", v), func() bool {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			defer cancel()
			_, err := w.seats[w.leader()].Proposer().Propose(ctx, put(v))
			return err == nil
		})
	}
}

// agree waits until every node that is up has the values, repeats aside.
func (w *world) agree(want ...int64) {
	w.t.Helper()
	for i, s := range w.seats {
		if s.member != nil {
			w.until(fmt.Sprintf("values %v at seat %d", want, i), func() bool { return slices.Equal(slices.Compact(s.fsm.values()), want) })
		}
	}
}

// voting waits until the seats, and only they, are voters, as all of them see.
func (w *world) voting(seats ...int) {
	w.t.Helper()
	var want []string
	for _, i := range seats {
		want = append(want, w.seats[i].memory.Self().Server)
	}
	slices.Sort(want)
	w.until(fmt.Sprintf("voters %v", seats), func() bool {
		return !slices.ContainsFunc(seats, func(i int) bool { return w.seats[i].member == nil || !slices.Equal(w.seats[i].voterIDs(), want) })
	})
}

func (s *seat) voterIDs() []string {
	var out []string
	for _, m := range s.Members() {
		if m.Voter {
			out = append(out, m.Server)
		}
	}
	return out
}

// others are the seats but i.
func (w *world) others(i int) []int {
	var out []int
	for j := range w.seats {
		if j != i {
			out = append(out, j)
		}
	}
	return out
}

// trio is a cluster of three with a leader.
func trio(t *testing.T, test func(*testing.T, *world)) {
	virtual(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1, 2)
		w.voting(0, 1, 2)
		w.leader()
		test(t, w)
	})
}

// journal is a log that can be searched.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *journal) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *journal) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.buf.String(), text)
}

func (l *journal) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *journal) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.buf.String()
	return s[max(0, len(s)-3000):]
}

var errCrashed = errors.New("crashed")
