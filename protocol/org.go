package protocol

// Org is an organisation, as /v2/orgs shows and takes it. Everything that is
// limited is limited for one organisation as a whole.
type Org struct {
	ID           string  `json:"id"` // org_ and lower-case letters, digits, _ and -; never used again once deleted
	Name         string  `json:"name,omitempty"`
	Weight       int     `json:"weight"`       // of its share while several organisations wait; 1 if not given
	QueueLimit   int     `json:"queueLimit"`   // jobs that may wait; 0 is the default, MaxQueueOrg
	MaxRunning   int     `json:"maxRunning"`   // jobs that may run at once; 0 is no limit
	StorageQuota int64   `json:"storageQuota"` // bytes of stored outputs; 0 is no limit
	StorageUsed  int64   `json:"storageUsed"`  // set by the server: bytes of stored outputs
	Credits      Credits `json:"credits"`
	CreatedAt    Time    `json:"createdAt,omitzero"` // set by the server; absent on the first organisation
	Revision     uint64  `json:"revision,omitempty"` // set by the server; sent back on update it must match
}

// Credits is the money of an organisation.
type Credits struct {
	Enabled  bool  `json:"enabled"`  // else nothing is asked of its jobs
	Balance  Money `json:"balance"`  // set by grants and by what jobs cost
	Reserved Money `json:"reserved"` // set by the server: of the balance, for jobs that have not ended
}

// CreditGrant is the body of POST /v2/orgs/{id}/credits. With an idempotency key
// (header) the same grant has its effect once.
type CreditGrant struct {
	Amount Money `json:"amount"` // negative takes away
}
