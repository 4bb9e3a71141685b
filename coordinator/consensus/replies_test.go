package consensus

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestOldAnswerConfirmsNothing: only what was sent after a check began counts
// for it, only from voters, and only in our term.
func TestOldAnswerConfirmsNothing(t *testing.T) {
	conf := raft.Configuration{Servers: []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d", Suffrage: raft.Nonvoter}}}
	began := time.Now()
	before, after := began.Add(-time.Millisecond), began.Add(time.Millisecond)
	r := newReplies()
	check := func(want bool, why string) {
		t.Helper()
		if got := r.quorum(conf, "a", began); got != want {
			t.Fatalf("%s: quorum %v", why, got)
		}
	}
	check(false, "nobody answered")
	r.note("b", before, nil, 3, 3)
	check(false, "the exchange began before the check")
	r.note("d", after, nil, 3, 3)
	check(false, "a server without a vote")
	r.note("b", after, nil, 3, 4)
	check(false, "a newer term")
	r.note("b", after, errors.New("cut"), 3, 3)
	check(false, "no answer")
	r.note("c", after, nil, 3, 3)
	check(true, "one of two others answered")
	r.note("c", before, nil, 3, 3)
	check(true, "an older exchange ended later")
}

// TestCheckGoesOnUntilFresh: a round that only old answers confirmed is
// repeated; one that fails is not.
func TestCheckGoesOnUntilFresh(t *testing.T) {
	rounds := 0
	var asked time.Time
	v := &verifier{
		check: func() error { rounds++; return nil },
		fresh: func(since time.Time) bool {
			if asked.IsZero() {
				asked = since
			}
			return since.Equal(asked) && rounds == 3
		},
	}
	if err := v.lead(); err != nil || rounds != 3 {
		t.Fatalf("%d rounds, %v", rounds, err)
	}
	lost := errors.New("it does not lead")
	v.check = func() error { rounds++; return lost }
	if err := v.lead(); !errors.Is(err, lost) || rounds != 4 {
		t.Fatalf("%d rounds, %v", rounds, err)
	}
}
