package state

import (
	"encoding/binary"
	"testing"

	"windlass/protocol"
)

func jobID(n int) protocol.JobID {
	var id protocol.JobID
	// As real ids: a time in front, and bits that look random behind it.
	binary.BigEndian.PutUint64(id[:], uint64(n/50)<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n+1)*0x9E3779B97F4A7C15)
	return id
}

func queuedJob(e *Endpoint, n, size int) *Job {
	return &Job{
		ID: jobID(n), Seq: uint64(n), Org: e.Org, Target: e.ID, Run: 1, MaxAttempts: 3, MaxLosses: 3,
		Status: protocol.StatusQueued, Priority: protocol.PriorityNormal,
		Input: Payload{Inline: make([]byte, size)},
	}
}

// withEndpoint returns a store that has one endpoint, at index 1.
func withEndpoint(t testing.TB) (*Store, *Endpoint) {
	t.Helper()
	s := New()
	txn := s.Begin()
	txn.PutEndpoint(&Endpoint{Org: "org_default", ID: "ep_echo", Revision: 1, Index: 1, Doc: &protocol.Endpoint{ID: "ep_echo"}})
	txn.Commit(1)
	return s, s.Endpoint("org_default", "ep_echo")
}
