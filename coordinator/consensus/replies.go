package consensus

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// replies knows, for each follower, when the newest exchange began in which it
// answered that our term is its term. raft lets any answer confirm every
// leadership check that waits when it arrives, also a check that began after
// the follower had answered: a process that was stopped in the middle of an
// exchange finds such an answer when it continues, and would read the past as
// the leader that it is no more (etcd-io/etcd#20418 is the same).
type replies struct {
	mu   sync.Mutex
	sent map[raft.ServerID]time.Time
}

func newReplies() *replies { return &replies{sent: make(map[raft.ServerID]time.Time)} }

// note records an answer to what was sent at that moment. It is called before
// raft sees the answer.
func (r *replies) note(id raft.ServerID, sent time.Time, err error, ours, theirs uint64) {
	if err != nil || theirs != ours {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if sent.After(r.sent[id]) {
		r.sent[id] = sent
	}
}

// quorum reports whether self and those that answered to something sent at or
// after that moment are a majority of the voters.
func (r *replies) quorum(conf raft.Configuration, self raft.ServerID, since time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	voters, with := 0, 0
	for _, s := range conf.Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if sent, ok := r.sent[s.ID]; s.ID == self || ok && !sent.Before(since) {
			with++
		}
	}
	return with > voters/2
}

// AppendEntries implements raft.Transport; heartbeats come this way too.
func (n network) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := time.Now()
	err := n.NetworkTransport.AppendEntries(id, to, args, resp)
	n.replies.note(id, sent, err, args.Term, resp.Term)
	return err
}

// InstallSnapshot implements raft.Transport.
func (n network) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	sent := time.Now()
	err := n.NetworkTransport.InstallSnapshot(id, to, args, resp, data)
	n.replies.note(id, sent, err, args.Term, resp.Term)
	return err
}
