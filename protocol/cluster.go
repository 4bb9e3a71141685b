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
