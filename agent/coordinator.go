package agent

import (
	"context"
	"io"

	"windlass/protocol"
)

// Coordinator is how an agent reaches its coordinators; protocol/client
// implements it and follows leader hints. An answer that refuses is a
// *protocol.Error, everything else counts as a lost connection.
type Coordinator interface {
	// Register opens an incarnation.
	Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error)
	// Sync parks the poll; ctx bounds the hold.
	Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error)
	// Report sends progress and results.
	Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error)
	// GrantOutputs asks for leave to upload what an attempt made.
	GrantOutputs(ctx context.Context, req protocol.GrantRequest) (protocol.GrantResponse, error)
	// PutOutput stores exactly what was granted; it is repeated from the start of r.
	PutOutput(ctx context.Context, g protocol.UploadGrant, r io.ReadSeeker) error
	// PutBlob stores size bytes under their hex SHA-256.
	PutBlob(ctx context.Context, sha256hex string, size int64, r io.Reader) error
	// GetBlob opens a job's input; the caller closes it and checks its digest.
	GetBlob(ctx context.Context, sha256hex string, job protocol.JobID) (io.ReadCloser, error)
}
