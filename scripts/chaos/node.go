package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"windlass/protocol"
)

// node is one coordinator.
type node struct {
	*proc
	b      *bed
	api    string // host:port
	peer   string
	data   string // its data directory
	faults string // the folder that tells a build with the tag chaos how to fail
	http   *http.Client
}

func newNode(b *bed, name string) (*node, error) {
	n := &node{b: b, data: b.path(name + "-data"), faults: b.path(name + "-chaos"), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	n.proc = &proc{
		name: name, args: []string{"coordinator", "-c", b.path(name + ".yaml")},
		env: []string{"WINDLASS_CHAOS=" + n.faults}, log: b.path(name + ".log"),
	}
	place, err := b.net.Place(name)
	if err != nil {
		return nil, err
	}
	n.api, n.peer = place.API, place.Peer
	return n, os.MkdirAll(n.faults, 0o700)
}

// configure writes the configuration file; more is appended to it.
func (n *node) configure(more string) error {
	var peers []string
	for _, o := range n.b.nodes {
		peers = append(peers, fmt.Sprintf("%q", o.peer))
	}
	secure := ""
	if n.b.net.Foreign() {
		secure = fmt.Sprintf(", tls: {ca: %s, cert: %s, key: %s}", n.b.path("tls/ca.pem"), n.b.path("tls/"+n.name+".pem"), n.b.path("tls/"+n.name+"-key.pem"))
	}
	config := fmt.Sprintf("data: %s\nhttp: {listen: %q}\npeer: {listen: %q%s}\nbootstrapKeyFile: %s\nlog: {level: info}\n", n.data, n.api, n.peer, secure, n.b.path("key"))
	if len(n.b.nodes) > 1 {
		config += fmt.Sprintf("join: [%s]\nexpect: %d\n", strings.Join(peers, ", "), len(n.b.nodes))
	}
	return os.WriteFile(n.b.path(n.name+".yaml"), []byte(config+more), 0o600)
}

// start starts it, and returns once it is ready.
func (n *node) start(ctx context.Context) error {
	if err := n.b.spawn(n.proc); err != nil {
		return err
	}
	return n.ready(ctx)
}

// readyLook is how often a starting coordinator is asked whether it is ready.
const readyLook = 20 * time.Millisecond

func (n *node) ready(ctx context.Context) error {
	for {
		if n.isReady(ctx) {
			return nil
		}
		if !n.alive() {
			return fmt.Errorf("%s ended while starting", n.name)
		}
		if err := pause(ctx, readyLook); err != nil {
			return fmt.Errorf("%s was never ready: %w", n.name, err)
		}
	}
}

// askTime bounds one question of the harness; a hanging coordinator must not
// hold up what comes next.
const askTime = 2 * time.Second

// isReady asks once.
func (n *node) isReady(ctx context.Context) bool {
	return n.get(ctx, "/readyz", nil) == nil
}

// get reads one document of this coordinator.
func (n *node) get(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.api+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+bedKey)
	resp, err := n.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s to %s", n.name, resp.Status, path)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// status is how this coordinator itself stands.
func (n *node) status(ctx context.Context, digest bool) (protocol.ClusterStatus, error) {
	var s protocol.ClusterStatus
	err := n.get(ctx, fmt.Sprintf("/v2/cluster?consistency=stale&digest=%t", digest), &s)
	return s, err
}

// leader is the coordinator that leads with the newest term.
func (b *bed) leader(ctx context.Context) (*node, error) {
	for {
		var best *node
		var term uint64
		for _, n := range b.nodes {
			if !n.alive() {
				continue
			}
			if s, err := n.status(ctx, false); err == nil && s.Leader && s.Term >= term {
				best, term = n, s.Term
			}
		}
		if best != nil {
			return best, nil
		}
		if err := pause(ctx, readyLook); err != nil {
			return nil, fmt.Errorf("nobody leads: %w", err)
		}
	}
}

// others are the coordinators but one.
func (b *bed) others(n *node) []*node {
	var out []*node
	for _, o := range b.nodes {
		if o != n {
			out = append(out, o)
		}
	}
	return out
}

// strike tells a coordinator to fail at a point (consensus/chaos_on.go).
func (n *node) strike(point, how string) error {
	// The file appears whole: the coordinator may look at any moment.
	tmp := filepath.Join(n.faults, "."+point)
	if err := os.WriteFile(tmp, []byte(how), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(n.faults, point))
}

// told reports whether what strike said has not happened yet.
func (n *node) told(point string) bool {
	_, err := os.Stat(filepath.Join(n.faults, point))
	return err == nil
}

// spare takes back what strike said.
func (n *node) spare(point string) error {
	err := os.Remove(filepath.Join(n.faults, point))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// healthy waits until every coordinator is ready; those that ended are started.
func (b *bed) healthy(ctx context.Context) error {
	return within(ctx, healTime, func(ctx context.Context) error {
		for _, n := range b.nodes {
			if !n.alive() {
				if err := b.spawn(n.proc); err != nil {
					return err
				}
			}
		}
		for _, n := range b.nodes {
			if err := n.ready(ctx); err != nil {
				return fmt.Errorf("the cluster did not heal: %w", err)
			}
		}
		return b.whole(ctx)
	})
}

// whole waits until every coordinator may vote: one that came back empty is a
// learner first, and a fault on top of that would be one too many.
func (b *bed) whole(ctx context.Context) error {
	if len(b.nodes) == 1 {
		return nil
	}
	for {
		var m protocol.ClusterMembers
		err := b.nodes[0].get(ctx, "/v2/cluster/members", &m)
		voters := 0
		for _, one := range m.Members {
			if one.Role == protocol.RoleVoter || one.Role == protocol.RoleLeader {
				voters++
			}
		}
		if err == nil && m.Healthy && voters == len(b.nodes) {
			return nil
		}
		if perr := pause(ctx, 5*readyLook); perr != nil {
			return fmt.Errorf("the cluster is not whole again: %v %w", m.Findings, errors.Join(err, perr))
		}
	}
}

// healTime bounds how long a cluster with nothing broken any more may need.
const healTime = 2 * time.Minute
