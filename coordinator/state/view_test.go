package state

import (
	"slices"
	"testing"

	"windlass/protocol"
)

func ids(v *View, after protocol.JobID, newestFirst bool, limit int) []protocol.JobID {
	var out []protocol.JobID
	v.Jobs(after, newestFirst, func(j *Job) bool {
		out = append(out, j.ID)
		return len(out) < limit
	})
	return out
}

func TestJobsAreReadInPages(t *testing.T) {
	s, e := withEndpoint(t)
	txn := s.Begin()
	var want []protocol.JobID
	for n := range 25 {
		txn.PutJob(queuedJob(e, n, 1))
		want = append(want, jobID(n))
	}
	txn.Commit(2)
	slices.SortFunc(want, compareJobs)
	for _, newestFirst := range []bool{false, true} {
		var got []protocol.JobID
		for cursor := (protocol.JobID{}); ; cursor = got[len(got)-1] {
			page := ids(s.View(), cursor, newestFirst, 10)
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("newestFirst=%t: got %v, want %v", newestFirst, got, want)
		}
		slices.Reverse(want)
	}
	// A cursor whose job is gone keeps its place.
	txn = s.Begin()
	cancelled := *s.Job(want[5])
	cancelled.Status = protocol.StatusCancelled
	txn.PutJob(&cancelled)
	txn.DeleteJob(want[5])
	txn.Commit(3)
	if got := ids(s.View(), want[5], false, 1); !slices.Equal(got, want[6:7]) {
		t.Errorf("after a removed job: %v, want %v", got, want[6:7])
	}
}

func TestEndpointsOfOneOrganisation(t *testing.T) {
	s := New()
	txn := s.Begin()
	for _, name := range [][2]string{{"b", "x"}, {"a", "z"}, {"a", "y"}, {"ab", "w"}} {
		txn.PutEndpoint(&Endpoint{Org: name[0], ID: name[1], Doc: &protocol.Endpoint{}})
	}
	txn.Commit(1)
	list := func(org string) (out []string) {
		for _, e := range s.View().Endpoints(org) {
			out = append(out, e.Org+"/"+e.ID)
		}
		return out
	}
	if got := list("a"); !slices.Equal(got, []string{"a/y", "a/z"}) {
		t.Errorf("of a: %v", got)
	}
	if got := list(""); !slices.Equal(got, []string{"a/y", "a/z", "ab/w", "b/x"}) {
		t.Errorf("all: %v", got)
	}
	if s.View().Endpoint("a", "w") != nil || s.View().Queued("none") != 0 {
		t.Error("what does not exist was found")
	}
}

func TestViewsDoNotChange(t *testing.T) {
	s, _ := withEndpoint(t)
	before := s.View()
	digest := before.Digest()
	j := put(s, 2)
	if before.Job(j.ID) != nil || before.Digest() != digest || before.Index() != 1 || before.Endpoint("org_default", "ep_echo").Live != 0 {
		t.Error("a view changed")
	}
	if s.Job(j.ID) != j || s.View().Digest() == digest {
		t.Error("the new view lacks the job")
	}
}

// impossible runs fn, which must panic: no result is better than a wrong one.
func impossible(t *testing.T, what string, fn func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s was accepted", what)
		}
	}()
	fn()
}

func TestImpossibleStatesPanic(t *testing.T) {
	impossible(t, "a falling attempt", func() {
		s, e := withEndpoint(t)
		txn := s.Begin()
		first, second := queuedJob(e, 1, 1), queuedJob(e, 1, 1)
		first.Attempt = 2
		second.Attempt = 1
		txn.PutJob(first)
		txn.PutJob(second)
	})
	impossible(t, "a live job without an endpoint", func() {
		s, e := withEndpoint(t)
		j := queuedJob(e, 1, 1)
		j.Target = "ep_none"
		s.Begin().PutJob(j)
	})
	impossible(t, "an endpoint removed under a live job", func() {
		s, e := withEndpoint(t)
		txn := s.Begin()
		txn.PutJob(queuedJob(e, 1, 1))
		txn.DeleteEndpoint(e.Org, e.ID)
	})
	impossible(t, "a count below zero", func() {
		s, e := withEndpoint(t)
		s.Begin().count(queuedJob(e, 1, 1), -1)
	})
	impossible(t, "a lease that nobody listed", func() {
		leases{}.remove(protocol.AgentID{1}, jobID(1))
	})
}

// TestDigestIsGivenUp: whoever stops a coordinator does not wait for a hash.
func TestDigestIsGivenUp(t *testing.T) {
	s, e := withEndpoint(t)
	txn := s.Begin()
	for n := range rowsPerTxn {
		txn.PutJob(queuedJob(e, n, 1))
	}
	txn.Commit(2)
	done := make(chan struct{})
	if sum, ok := s.View().DigestUntil(done); !ok || sum != s.View().Digest() {
		t.Error("the digest differs from itself")
	}
	close(done)
	if _, ok := s.View().DigestUntil(done); ok {
		t.Error("the digest went on")
	}
}
