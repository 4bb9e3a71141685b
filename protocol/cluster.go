package protocol

// ClusterStatus is GET /v2/cluster: how one coordinator stands.
type ClusterStatus struct {
	Node     string      `json:"node"`   // id of the coordinator that answers
	Leader   bool        `json:"leader"` // whether it leads
	Term     uint64      `json:"term,omitempty"`
	Index    uint64      `json:"index"`   // newest log entry with commands that it applied
	ClockMs  int64       `json:"clockMs"` // replicated clock at that entry, unix milliseconds
	Agents   int         `json:"agents"`  // registered, connected or not
	Jobs     ClusterJobs `json:"jobs"`
	Bytes    int64       `json:"stateBytes"` // of all rows, the same on every coordinator
	MaxBytes int64       `json:"maxBytes"`   // above which a submit is refused; 0 is no limit
	// Digest is the SHA-256 of the state at Index, in hex; present if asked for.
	Digest string `json:"digest,omitempty"`
}

// ClusterJobs counts the jobs that are not terminal.
type ClusterJobs struct {
	Queued  int `json:"queued"`
	Running int `json:"running"` // leased: initializing or running
}

// ClusterMembers is GET /v2/cluster/members: the coordinators as the one that
// answers sees them. What it says of others is at most a few seconds old.
type ClusterMembers struct {
	Cluster   string          `json:"cluster,omitempty"` // its id; absent on a coordinator that is in none
	Expect    int             `json:"expect"`            // voters that the configuration asks for
	Healthy   bool            `json:"healthy"`           // nothing below Expect, nobody missing or far behind, a leader
	Tolerates int             `json:"tolerates"`         // voters that may fail now without stopping the cluster
	Findings  []string        `json:"findings"`          // what is wrong, or will be, with the remedy
	Members   []ClusterMember `json:"members"`
}

// ClusterMember is one coordinator.
type ClusterMember struct {
	Server        string     `json:"server"`        // id, made with its data directory
	Address       string     `json:"address"`       // of its peer port, host:port
	URL           string     `json:"url,omitempty"` // base of its API
	Role          MemberRole `json:"role"`
	Self          bool       `json:"self"` // the one that answers
	Reachable     bool       `json:"reachable"`
	LastContactMs *int64     `json:"lastContactMs,omitempty"` // since its newest answer; absent when there was none
	ClockOffsetMs int64      `json:"clockOffsetMs"`           // its wall clock against that of the one that answers
	Version       string     `json:"version,omitempty"`
	Features      [2]uint32  `json:"features"` // lowest and highest feature level that it supports
	Applied       uint64     `json:"applied"`
	LastIndex     uint64     `json:"lastIndex"`
	Term          uint64     `json:"term"`
	// Checkpoint is the newest digest of its state; coordinators with the same
	// index must have the same digest.
	Checkpoint *ClusterCheckpoint `json:"checkpoint,omitempty"`
	// Payloads says what its own payloads lack; absent when nothing is lacking, or
	// all coordinators share a store.
	Payloads *ClusterPayloads `json:"payloads,omitempty"`
}

// ClusterPayloads are the payloads that a coordinator does not have. It is made
// a voter when none is missing.
type ClusterPayloads struct {
	Missing int      `json:"missing"`           // to be copied from the others
	IdleMs  int64    `json:"idleMs"`            // since the newest one came
	Trouble string   `json:"trouble,omitempty"` // why the newest copy that failed did
	Nowhere int      `json:"nowhere"`           // no coordinator that answers has these
	Names   []string `json:"names,omitempty"`   // how the digests of a few of those begin
}

// MemberRole is what a coordinator is in its cluster.
type MemberRole string

// The roles.
const (
	RoleLeader  MemberRole = "leader"
	RoleVoter   MemberRole = "voter"
	RoleLearner MemberRole = "learner" // receives the log, and votes once it has kept up for a while
	RoleWaiting MemberRole = "waiting" // is in no cluster yet
)

// ClusterCheckpoint is the digest of the state at an index.
type ClusterCheckpoint struct {
	Index  uint64 `json:"index"`
	Digest string `json:"digest"`
}

// ClusterChange is the body of POST /v2/cluster/transfer and
// /v2/cluster/remove. Without a server, transfer chooses the voter that is
// furthest.
type ClusterChange struct {
	Server string `json:"server,omitempty"`
}

// ClusterJoin is the body of POST /v2/cluster/join, for a coordinator that
// waits for its cluster: where else to ask.
type ClusterJoin struct {
	Addresses []string `json:"addresses"` // of peer ports, host:port
}

// ClusterRestored is the answer to POST /v2/cluster/restore.
type ClusterRestored struct {
	Index  uint64      `json:"index"` // of the log, at which the snapshot's state stands now
	Jobs   ClusterJobs `json:"jobs"`
	Agents int         `json:"agents"`
}

// ClusterDebug is GET /v2/cluster/debug: what one coordinator knows about
// itself, without keys, inputs and outputs.
type ClusterDebug struct {
	Node       string            `json:"node"`
	Version    string            `json:"version"`
	Go         string            `json:"go"`
	StartedMs  int64             `json:"startedMs"`
	Config     any               `json:"config"` // names files of keys, and holds none
	Consensus  map[string]string `json:"consensus"`
	Log        []string          `json:"log"`        // its newest lines
	Goroutines string            `json:"goroutines"` // stacks
}
