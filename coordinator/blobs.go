package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/consensus"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// s3CheckTime bounds the look at the bucket before a coordinator starts.
const s3CheckTime = 10 * time.Second

// blobs is where payloads are, and what keeps them complete and tidy.
type blobs struct {
	store     blob.Store
	shared    bool // one store for all coordinators: the leader alone collects
	filler    *filler
	collector *blob.Collector
}

// openBlobs opens the store that the configuration names. It needs the node and
// its port, which does not serve yet.
func (c *Coordinator) openBlobs(opts Options) error {
	b := &blobs{}
	c.blobs = b
	copies := func() *consensus.Copies { return nil } // one store for all
	switch {
	case opts.Blobs != nil:
		b.store = opts.Blobs
	case c.cfg.Blob.Kind == blobS3:
		if err := c.openS3(); err != nil {
			return err
		}
	default:
		dir, err := c.openBlobDir()
		if err != nil {
			return err
		}
		b.store = dir
	}
	if dir, ok := b.store.(*blob.Dir); ok {
		peers := &blobPeers{node: c.node, port: c.port}
		replicated := blob.NewReplicated(dir, peers)
		c.release = append(c.release, replicated.Close)
		if c.port != nil {
			serveBlobs(c.port, dir)
		}
		b.store = replicated
		b.filler = newFiller(replicated, peers, c.namedBlobs, c.store, c.node.AppliedIndex, c.log)
		copies = b.filler.copies
	}
	c.copies.Store(&copies)
	b.collector = blob.NewCollector(b.store, func(ctx context.Context, name func(blob.Digest)) error {
		_, err := c.namedBlobs(ctx, name)
		return err
	})
	return nil
}

func (c *Coordinator) openBlobDir() (*blob.Dir, error) {
	dir, err := blob.OpenDir(c.cfg.blobDir())
	if err != nil {
		return nil, fmt.Errorf("%w: set blob.dir to a directory that this user may write", err)
	}
	c.release = append(c.release, dir.Close)
	return dir, nil
}

// openS3 opens the bucket. A service that does not answer is waited for while
// serving: refusing to start would turn its outage into ours.
func (c *Coordinator) openS3() error {
	spool, err := c.openBlobDir()
	if err != nil {
		return err
	}
	cfg, err := c.cfg.Blob.S3.open()
	if err != nil {
		return err
	}
	store, err := blob.NewS3(cfg, spool)
	if err != nil {
		return fmt.Errorf("%w: set blob.s3.endpoint to host:port of the service, and blob.s3.bucket to the name of a bucket there", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s3CheckTime)
	defer cancel()
	switch err := store.Check(ctx); {
	case errors.Is(err, blob.ErrUnreachable) || ctx.Err() != nil:
		c.log.Warn().Err(err).Str("endpoint", cfg.Endpoint).Msg("the S3 service does not answer: large payloads wait for it")
	case err != nil:
		return fmt.Errorf("%w: set blob.s3 to a bucket that exists, and to keys that may list it and get, put and delete its objects", err)
	}
	c.blobs.store, c.blobs.shared = store, true
	return nil
}

// missing is how many payloads this coordinator has yet to fetch, as far as it
// knows.
func (b *blobs) missing() int64 {
	if b.filler == nil {
		return 0
	}
	return max(b.filler.missing.Load(), 0)
}

// run keeps this coordinator's own copies until ctx ends.
func (b *blobs) run(ctx context.Context, c *Coordinator) {
	if b.shared {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if b.filler != nil {
			b.filler.run(ctx)
		}
	}()
	b.collect(ctx, c)
	<-done
}

// collectShared is the leader's duty where all coordinators share one store.
func (c *Coordinator) collectShared(ctx context.Context) {
	if c.blobs.shared {
		c.blobs.collect(ctx, c)
	}
}

func (b *blobs) collect(ctx context.Context, c *Coordinator) {
	b.collector.Run(ctx, func(err error) {
		c.log.Warn().Err(err).Msg("payloads that nothing needs could not be removed yet")
	})
}

// namedBlobs calls name for every blob that the state needs, after everything
// that was acknowledged before the call is in it. It returns the state that it
// read; with an error beside it, only what archived jobs name is incomplete.
func (c *Coordinator) namedBlobs(ctx context.Context, name func(blob.Digest)) (*state.View, error) {
	if err := c.forward.Barrier(ctx); err != nil {
		return nil, err
	}
	view := c.store.View()
	if err := needed(ctx, view, name); err != nil {
		return nil, err
	}
	return view, c.archive.References(ctx, view, name)
}

// needed calls name for every blob that the rows of a view name.
func needed(ctx context.Context, view *state.View, name func(blob.Digest)) error {
	view.Stored(func(s *state.Stored) bool {
		for _, d := range s.Blobs {
			name(d)
		}
		return ctx.Err() == nil
	})
	view.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		j.Blobs(name)
		return ctx.Err() == nil
	})
	return ctx.Err()
}
