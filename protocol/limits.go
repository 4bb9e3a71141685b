package protocol

import "time"

// Limits of documents and jobs. Each is checked once, at the edge.
const (
	// MaxBody bounds a request body (DESIGN 4).
	MaxBody = 10 << 20
	// MaxDepth bounds the nesting of any JSON that a client or a runtime sends;
	// real inputs stay below 20, and encoding/json itself stops at 10,000.
	MaxDepth = 256
	// InlineInput is the largest input kept in the log; larger ones are blobs.
	InlineInput = 16 << 10
	// InlineOutput is the largest output kept in the log; larger ones are blobs.
	InlineOutput = 64 << 10
	// InlineDetail is the most of an attempt's log or chunk list kept in the log;
	// both are read rarely, so less than an output.
	InlineDetail = 16 << 10
	// MaxOutput bounds one result document; larger data belongs into artifacts.
	MaxOutput = 64 << 20
	// MaxTags, MaxTagKey and MaxTagValue bound what a job row carries for filters.
	MaxTags     = 32
	MaxTagKey   = 128
	MaxTagValue = 512
	// MaxIdempotencyKey bounds the caller's key.
	MaxIdempotencyKey = 255
	// MaxURL bounds a callback address.
	MaxURL = 2048
	// MaxBatchStatus bounds the ids of one batch status call.
	MaxBatchStatus = 1000
	// MaxListLimit and DefaultListLimit bound a page of a list.
	MaxListLimit     = 1000
	DefaultListLimit = 50
	// LogTail is how many log lines a job shows while its attempt lives.
	LogTail = 200
	// MaxLogLine cuts a log line.
	MaxLogLine = 16 << 10
	// MaxMetadata bounds the metadata object of one progress message.
	MaxMetadata = 16 << 10
	// MaxChunk bounds one stream chunk.
	MaxChunk = 1 << 20
	// MaxQueueOrg is how many jobs of one organisation may wait (seed S3).
	MaxQueueOrg = 100_000
	// MaxKeysOrg bounds the API keys of one organisation: one for each program
	// that calls, with room to spare. Beyond it those that ended are forgotten.
	MaxKeysOrg = 1000
)

// Policy bounds (DESIGN 4) and defaults.
const (
	MinPolicyTime           = time.Second
	MaxPolicyTime           = 7 * 24 * time.Hour
	DefaultExecutionTimeout = 10 * time.Minute
	DefaultTTL              = 24 * time.Hour
	DefaultMaxAttempts      = 3
	MaxAttempts             = 100
	DefaultMaxLosses        = 3
)

// Agent protocol times (DESIGN 3.4 and 3.5, agent.md 4).
const (
	SyncHold       = 30 * time.Second // how long a sync is parked; the reply tells the next, jittered
	BeatPeriod     = 5 * time.Second  // how often an agent reports when nothing happens
	LeaseTerm      = 30 * time.Second // how long a lease lives without a sign of its agent
	AckDeadline    = 10 * time.Second // how old an assignment may be when it is received
	CallLimit      = 10 * time.Second // how long a register or report may go unanswered: a coordinator that was stopped keeps its connections, and the next leader must hear of every lease well before LeaseTerm
	BlobTerm       = 30 * time.Minute // how long a stored payload that no job names yet is surely there; a result that was not answered by then stores its payloads again
	SyncGrace      = 10 * time.Second // added to the hold by the agent's own deadline
	ProtocolMajor  = 1
	ProtocolMinor  = 0
	MinProtocolMin = 0
)
