package protocol

// Header names that are Windlass's own or that both sides spell.
const (
	HeaderRequestID      = "X-Request-Id"
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderReplayed       = "Idempotent-Replayed"
	HeaderLastEventID    = "Last-Event-ID"
	HeaderRate           = "RateLimit"        // what is left (draft-ietf-httpapi-ratelimit-headers)
	HeaderRatePolicy     = "RateLimit-Policy" // of how much
	HeaderIndex          = "X-Windlass-Index" // applied raft index behind a stale read
	HeaderAge            = "X-Windlass-Age"   // how old a stale read may be, in milliseconds
	HeaderGrant          = "X-Windlass-Grant" // token of an upload
	HeaderRelay          = "X-Windlass-Relay" // a coordinator relays the request; for how long already, in milliseconds
	HeaderRelayTurn      = "X-Windlass-Turn"  // names a relayed request that takes something: sent again, it takes the same
	HeaderEnded          = "X-Windlass-Ended" // to a coordinator that relays: the job has ended by this raft index, answer yourself
)

// Paths of the agent protocol.
const (
	PathRegister = "/agent/v1/register"
	PathSync     = "/agent/v1/sync"
	PathReport   = "/agent/v1/report"
	PathBlob     = "/agent/v1/blobs/"  // + hex SHA-256: GET an input, PUT a log or chunks
	PathOutputs  = "/agent/v1/outputs" // POST: grants to upload; PUT + / + hex SHA-256: what was granted
)
