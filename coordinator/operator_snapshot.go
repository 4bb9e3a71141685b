package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"windlass/coordinator/consensus"
	"windlass/protocol"
)

// Save implements api.Operator. The snapshot is on this disk before the first
// byte is sent, so that what cannot be saved is an error and not half a file.
func (o *operator) Save(ctx context.Context) (io.ReadCloser, int64, error) {
	f, err := os.CreateTemp(o.c.cfg.blobDir(), "save-*.tmp")
	if err != nil {
		return nil, 0, fmt.Errorf("cannot save snapshot: %w", err)
	}
	err = os.Remove(f.Name()) // it lives as long as it is open
	if err == nil {
		err = o.c.node.SaveSnapshot(ctx, f)
	}
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// Restore implements api.Operator.
func (o *operator) Restore(ctx context.Context, snapshot io.Reader) (protocol.ClusterRestored, error) {
	b, err := o.c.node.RestoreSnapshot(ctx, snapshot)
	switch {
	case errors.Is(err, consensus.ErrBackup):
		return protocol.ClusterRestored{}, protocol.NewError(protocol.CodeValidation, err.Error())
	case err != nil:
		return protocol.ClusterRestored{}, err
	}
	o.c.log.Warn().Str("from", b.Cluster).Uint64("index", b.Index).Int64("takenMs", b.TakenMs).Msg("state was replaced by a snapshot, all leases are fenced")
	v := o.c.store.View()
	out := protocol.ClusterRestored{Index: v.Index(), Agents: len(v.Agents())}
	for _, e := range v.Endpoints("") {
		out.Jobs.Queued += e.Queued
		out.Jobs.Running += e.Live - e.Queued
	}
	return out, nil
}
