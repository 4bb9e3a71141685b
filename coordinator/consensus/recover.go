package consensus

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/peer"
)

// Survey is what a stopped data directory holds. Of the survivors of a lost
// quorum, the one whose log is newest has everything that was acknowledged.
type Survey struct {
	Identity
	Servers       []SurveyServer // the newest configuration in the log
	Term          uint64         // the newest that the server took part in
	LastTerm      uint64         // of the newest entry
	LastIndex     uint64         // of the newest entry, committed or not: a stopped directory does not know
	SnapshotIndex uint64
}

// SurveyServer is one server of a configuration.
type SurveyServer struct {
	peer.Address
	Voter bool
}

// Compare is positive when s has more than other, by raft's own rule for votes.
func (s Survey) Compare(other Survey) int {
	return cmp.Or(cmp.Compare(s.LastTerm, other.LastTerm), cmp.Compare(s.LastIndex, other.LastIndex))
}

// ReadSurvey looks into the directory of a coordinator that does not run. It
// refuses one that is in use, and one that a coordinator would not start from.
func ReadSurvey(path string) (Survey, error) {
	n, err := openStopped(path, RecoverConfig{})
	if err != nil {
		return Survey{}, err
	}
	s, err := n.survey()
	return s, errors.Join(err, n.releaseAll())
}

// RecoverConfig is what Recover needs.
type RecoverConfig struct {
	// FSM applies the log, like that of a coordinator; it is used up.
	FSM raft.FSM
	// Verify is Config.Verify.
	Verify func(io.Reader) error
	Log    zerolog.Logger
}

// Recover makes a coordinator that does not run the only voter of a new
// cluster with everything that its directory holds. It is for a quorum that is
// lost for good, and it COMMITS EVERYTHING UNCOMMITTED: what was in that log
// happened, acknowledged or not; what only the lost ones had is lost. The new
// cluster has a new id, so the old servers, should they come back, cannot
// elect a second leader beside it: their directories are removed, and they join
// as new ones. It returns what was found before. A crash in between is repaired
// by doing it again.
func Recover(path string, cfg RecoverConfig) (Survey, error) {
	n, err := openStopped(path, cfg)
	if err != nil {
		return Survey{}, err
	}
	s, err := n.survey()
	if err == nil {
		err = n.startOver(s)
	}
	return s, errors.Join(err, n.releaseAll())
}

func openStopped(path string, cfg RecoverConfig) (*Node, error) {
	d, err := OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: Config{Directory: d, FSM: cfg.FSM, Verify: cfg.Verify, Log: cfg.Log, Fatal: func(error) {}}, fatal: make(chan error, 1)}
	back, err := n.openStorage(newBridge(cfg.Log))
	if err == nil {
		n.server = d.identity().ServerID
		n.trans = n.openTransport(newBridge(cfg.Log))
		err = n.guard(back)
	}
	if err != nil {
		return nil, errors.Join(err, n.releaseAll())
	}
	return n, nil
}

func (n *Node) survey() (Survey, error) {
	s := Survey{Identity: n.Identity(), SnapshotIndex: n.snapshotIndex()}
	var err error
	if s.Term, err = n.store.GetUint64([]byte(keyCurrentTerm)); err != nil && !isUnset(err) {
		return s, fmt.Errorf("cannot read raft term: %w", err)
	}
	snaps, err := n.snaps.List()
	if err != nil {
		return s, fmt.Errorf("cannot list snapshots: %w", err)
	}
	var conf raft.Configuration
	if len(snaps) > 0 {
		conf, s.LastIndex, s.LastTerm = snaps[0].Configuration, snaps[0].Index, snaps[0].Term
	}
	first, err := n.store.FirstIndex()
	if err != nil {
		return s, err
	}
	last, err := n.store.LastIndex()
	if err != nil {
		return s, err
	}
	found := false
	for i := last; i > 0 && i >= first; i-- {
		var entry raft.Log
		if err := n.store.GetLog(i, &entry); err != nil {
			return s, err
		}
		if i == last && i > s.LastIndex {
			s.LastIndex, s.LastTerm = entry.Index, entry.Term
		}
		if entry.Type == raft.LogConfiguration && !found {
			conf, found = raft.DecodeConfiguration(entry.Data), true
			break
		}
	}
	for _, server := range conf.Servers {
		addr, err := serverAddress(server)
		if err != nil {
			return s, err
		}
		s.Servers = append(s.Servers, SurveyServer{Address: addr, Voter: server.Suffrage == raft.Voter})
	}
	return s, nil
}

func (n *Node) startOver(s Survey) error {
	if s.LastIndex == 0 {
		return fmt.Errorf("cannot recover %s: it holds nothing: take the directory of another coordinator", n.cfg.Directory.path)
	}
	// The promise to the old cluster ends before the identity does, and that
	// before the configuration: each of the states in between is either the old
	// one or one from which nobody can be elected.
	if err := n.store.mark.change(func(p *promise) { p.cluster = "" }); err != nil {
		return err
	}
	if err := n.store.mark.flush(); err != nil {
		return err
	}
	id := n.Identity()
	id.ClusterID, id.Former = newID("cluster_"), ""
	if err := n.home.save(id); err != nil {
		return err
	}
	addr := peer.Address{Server: n.server, Host: "localhost:0"} // it tells its own when it leads
	for _, server := range s.Servers {
		if server.Server == n.server {
			addr = server.Address
		}
	}
	n.cfg.Expect = 1
	n.cfg.defaults()
	servers := []raft.Server{{ID: raft.ServerID(n.server), Address: raft.ServerAddress(addr.String())}}
	err := caught(func() error {
		return raft.RecoverCluster(n.raftConfig(newBridge(n.cfg.Log)), n.cfg.FSM, n.store, n.store, n.snaps, n.trans, raft.Configuration{Servers: servers})
	})
	if err != nil {
		return fmt.Errorf("cannot recover cluster: %w", err)
	}
	return n.store.mark.flush()
}
