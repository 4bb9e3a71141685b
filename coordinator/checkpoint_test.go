package coordinator

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/consensus"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func TestJudgeDigests(t *testing.T) {
	three := map[string]bool{"a": true, "b": true, "c": true}
	five := map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true}
	for name, c := range map[string]struct {
		told   map[string]string
		voters map[string]bool
		halt   bool
		alarm  string // a part of it; "" for none
	}{
		"all agree":                    {map[string]string{"a": "1:x", "b": "1:x", "c": "1:x"}, three, false, ""},
		"the others are not there yet": {map[string]string{"a": "1:x"}, three, false, ""},
		"this one is not there yet":    {map[string]string{"b": "1:x", "c": "1:y"}, three, false, ""},
		"this one alone":               {map[string]string{"a": "1:x", "b": "1:y", "c": "1:y"}, three, true, "halts"},
		"another one alone":            {map[string]string{"a": "1:y", "b": "1:x", "c": "1:y"}, three, false, "coordinator b is not"},
		"one to one":                   {map[string]string{"a": "1:x", "b": "1:y"}, three, false, "no majority"},
		"three states":                 {map[string]string{"a": "1:x", "b": "1:y", "c": "1:z"}, three, false, "no majority"},
		"two of five against one":      {map[string]string{"a": "1:x", "b": "1:y", "c": "1:y"}, five, false, "no majority"},
		"three of five against one":    {map[string]string{"a": "1:x", "b": "1:y", "c": "1:y", "d": "1:y"}, five, true, "halts"},
		"this one does not vote":       {map[string]string{"a": "1:x", "b": "1:y", "c": "1:y"}, map[string]bool{"b": true, "c": true}, true, "halts"},
		"who differs does not vote":    {map[string]string{"a": "1:x", "b": "1:y", "c": "1:y"}, map[string]bool{"a": true}, false, "coordinator b, c is not"},
		"another version":              {map[string]string{"a": "1:x", "b": "2:y", "c": "2:y"}, three, false, ""},
		"another version among two":    {map[string]string{"a": "1:x", "b": "2:y", "c": "1:x"}, three, false, ""},
	} {
		v := judge(c.told, "a", c.voters)
		if v.halt != c.halt || c.alarm == "" && v.alarm != "" || !strings.Contains(v.alarm, c.alarm) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// fakeMembers are the members as one of them, a, sees them.
type fakeMembers struct {
	states *checkpoints

	mu      sync.Mutex
	digests map[string]consensus.Checkpoint
}

func (f *fakeMembers) tell(server string, at consensus.Checkpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.digests[server] = at
}

func (f *fakeMembers) list() []consensus.Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.digests["a"] = f.states.current()
	var out []consensus.Member
	for _, server := range []string{"a", "b", "c"} {
		m := consensus.Member{Server: server, Self: server == "a", Voter: true, Joined: true, Reachable: true}
		m.Checkpoint = f.digests[server]
		out = append(out, m)
	}
	return out
}

// TestDivergedNodeHalts lets one node's state differ: it halts, once, and the
// others say which one it is.
func TestDivergedNodeHalts(t *testing.T) {
	run := func(mine, theirs int64) (halts []error, log string) {
		synctest.Test(t, func(t *testing.T) {
			at := func(maxBytes int64) *state.View {
				s := state.New()
				s.Replace(state.NewBuilder(), state.Meta{Index: 7, Settings: state.Settings{MaxBytes: maxBytes}})
				return s.View()
			}
			other := newCheckpoints(nil, nil, nil, zerolog.Nop())
			other.hash(t.Context(), at(theirs))
			var text bytes.Buffer
			f := &fakeMembers{digests: make(map[string]consensus.Checkpoint)}
			views := []*state.View{at(mine)}
			f.states = newCheckpoints(func() *state.View {
				if len(views) == 0 {
					return nil
				}
				v := views[0]
				views = views[1:]
				return v
			}, f.list, func(err error) { halts = append(halts, err) }, zerolog.New(&text))
			go f.states.run(t.Context())
			pass(2 * comparePeriod)
			synctest.Wait()
			f.tell("b", other.current()) // one to one
			pass(2 * comparePeriod)
			synctest.Wait()
			if len(halts) != 0 {
				t.Error("halted without a majority against it")
			}
			f.tell("c", other.current())
			pass(5 * comparePeriod)
			synctest.Wait()
			log = text.String()
		})
		return halts, log
	}
	halts, log := run(1, 1)
	if len(halts) != 0 || log != "" {
		t.Errorf("equal states: %v %s", halts, log)
	}
	halts, log = run(1, 2)
	var halt *consensus.HaltError
	if len(halts) != 1 || !errors.As(halts[0], &halt) || !strings.Contains(halts[0].Error(), "entry 7") {
		t.Errorf("another state: %v", halts)
	}
	if strings.Count(log, "no majority says") != 1 || strings.Count(log, "it halts") != 1 {
		t.Errorf("said\n%s", log)
	}
}

// TestLeaderProposesCheckpoints: the state is compared without anybody asking.
func TestLeaderProposesCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, consensus.NewMemory(), nil)
		defer l.end()
		l.endpoint(t)
		pass(time.Second)
		l.states.hash(t.Context(), l.store.TakeCheckpoint()) // followLeadership alone runs here
		first := l.states.current()
		if first.Index == 0 || !strings.HasPrefix(first.Digest, strconv.Itoa(state.DigestVersion)+":") {
			t.Fatalf("after a second: %+v", first)
		}
		pass(checkpointPeriod)
		synctest.Wait()
		l.states.hash(t.Context(), l.store.TakeCheckpoint())
		if now := l.states.current(); now.Index <= first.Index || now.Digest == "" {
			t.Errorf("after %s: %+v", checkpointPeriod, now)
		}
		if l.store.Endpoint(protocol.OrgDefault, "ep_echo") == nil {
			t.Error("the endpoint is gone")
		}
	})
}
