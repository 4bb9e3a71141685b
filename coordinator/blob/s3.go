package blob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/oklog/ulid/v2"
)

const (
	// s3Retries is how often a request is sent in all, with the library's back-off
	// of a few seconds in sum: a submit has 15 s.
	s3Retries = 4

	// s3Stall ends a request that was sent and is not answered, or whose answer
	// pauses: longer than the service's own internal retries.
	s3Stall = 20 * time.Second

	// s3Copies is how many copies of one blob are asked for: one is the rule, and
	// the newest of so many is newer than any that a collector removes.
	s3Copies = 100

	// s3Relists is how often a blob is looked up again because the copy that was
	// found first had been removed in favour of a newer one.
	s3Relists = 3
)

// S3Config names a bucket of an S3-compatible service.
type S3Config struct {
	Endpoint  string // host[:port]
	TLS       bool
	Region    string // empty: as the service says
	Bucket    string
	Prefix    string // of all names; empty, or ends with a slash
	PathStyle bool   // endpoint/bucket/name instead of bucket.endpoint/name
	AccessKey string
	SecretKey string
	Session   string // of temporary keys; usually empty

	Transport http.RoundTripper // nil: the library's
}

// S3 keeps blobs in a bucket. Each Put makes an object of its own, whose name is
// the digest and a ULID: S3 cannot remove an object only if it is still the
// one that was looked at, so what a collector may remove must never be written
// again. Older copies of the same bytes are garbage.
type S3 struct {
	api    minio.Core
	bucket string
	prefix string
	spool  *Dir
}

// NewS3 returns the store. A payload passes through an unnamed file of spool,
// because its name is its digest, and because it may have to be sent twice.
func NewS3(cfg S3Config, spool *Dir) (*S3, error) {
	if err := s3utils.CheckValidBucketName(cfg.Bucket); err != nil {
		return nil, fmt.Errorf("cannot use S3 bucket %q: %w", cfg.Bucket, err)
	}
	lookup := minio.BucketLookupDNS
	if cfg.PathStyle {
		lookup = minio.BucketLookupPath
	}
	transport := cfg.Transport
	if transport == nil {
		t, err := minio.DefaultTransport(cfg.TLS)
		if err != nil {
			return nil, fmt.Errorf("cannot use S3 endpoint: %w", err)
		}
		t.ResponseHeaderTimeout = s3Stall
		transport = t
	}
	api, err := minio.NewCore(cfg.Endpoint, &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, cfg.Session),
		Secure: cfg.TLS, Region: cfg.Region, BucketLookup: lookup, MaxRetries: s3Retries, Transport: transport,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use S3 endpoint %q: %w", cfg.Endpoint, err)
	}
	return &S3{api: *api, bucket: cfg.Bucket, prefix: cfg.Prefix, spool: spool}, nil
}

// Check lists the bucket once. ErrUnreachable: the service did not answer, which
// may pass; other errors are its answer, and stay until somebody acts.
func (s *S3) Check(ctx context.Context) error {
	_, err := s.list(ctx, s.prefix, 1)
	return s3Error("use bucket "+s.bucket, err)
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, r io.Reader, want *Digest, max int64) (Digest, int64, error) {
	f, digest, size, err := s.spool.hold(ctx, r, max)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	if want != nil && *want != digest {
		return Digest{}, 0, ErrMismatch
	}
	_, err = s.api.Client.PutObject(ctx, s.bucket, s.key(digest)+ulid.Make().String(), f, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream",
	})
	if err != nil {
		return Digest{}, 0, s3Error("store blob", err)
	}
	return digest, size, nil
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, digest Digest) (io.ReadCloser, int64, error) {
	body, size, err := s.open(ctx, digest, minio.GetObjectOptions{})
	if err != nil {
		return nil, 0, err
	}
	return &verified{r: body, sum: sha256.New(), want: digest}, size, nil
}

// open reads the newest copy of a blob.
func (s *S3) open(ctx context.Context, digest Digest, part minio.GetObjectOptions) (io.ReadCloser, int64, error) {
	for range s3Relists {
		found, err := s.list(ctx, s.key(digest), s3Copies)
		if err != nil {
			return nil, 0, s3Error("find blob", err)
		}
		if len(found) == 0 {
			break
		}
		newest := found[len(found)-1]
		ctx, cancel := context.WithCancelCause(ctx)
		body, info, _, err := s.api.GetObject(ctx, s.bucket, newest.Key, part)
		if err == nil {
			stall := time.AfterFunc(s3Stall, func() { cancel(fmt.Errorf("%w: no byte for %s", ErrUnreachable, s3Stall)) })
			stall.Stop()
			return &watched{body: body, cancel: cancel, stall: stall}, info.Size, nil
		}
		cancel(nil)
		if err = s3Error("read blob", err); !errors.Is(err, ErrNotFound) {
			return nil, 0, err
		}
	}
	return nil, 0, ErrNotFound
}

// watched ends a body that pauses during a Read; a reader that takes its time
// between two of them is no fault of the service.
type watched struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	stall  *time.Timer
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	w.stall.Reset(s3Stall)
	defer w.stall.Stop()
	return w.body.Read(p)
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.cancel(nil)
	return w.body.Close()
}

// Remove implements Store.
func (s *S3) Remove(ctx context.Context, c Copy) error {
	err := s.api.RemoveObject(ctx, s.bucket, s.key(c.Digest)+c.Version, minio.RemoveObjectOptions{})
	if err = s3Error("remove blob", err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Walk implements Store. Names sort by digest, then by the time of the Put.
func (s *S3) Walk(ctx context.Context, fn func(Copy) error) error {
	for o := range s.api.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true}) {
		if o.Err != nil {
			return s3Error("list blobs", o.Err)
		}
		name := strings.TrimPrefix(o.Key, s.prefix)
		_, name, _ = strings.Cut(name, "/")
		text, version, _ := strings.Cut(name, ".")
		digest, err := ParseDigest(text)
		if err != nil || o.Key != s.key(digest)+version {
			continue // somebody else's
		}
		if err := fn(Copy{Digest: digest, Size: o.Size, Version: version}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// list returns at most limit objects whose names begin so, in the order of names.
func (s *S3) list(ctx context.Context, prefix string, limit int) ([]minio.ObjectInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found []minio.ObjectInfo
	for o := range s.api.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, MaxKeys: limit}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if found = append(found, o); len(found) == limit {
			break
		}
	}
	return found, nil
}

// key is the name of a blob's copies up to their version.
func (s *S3) key(d Digest) string {
	name := hex.EncodeToString(d[:])
	return s.prefix + name[:2] + "/" + name + "."
}

// s3Error says what an error of the library means for who called.
func s3Error(verb string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	answer := minio.ToErrorResponse(err)
	err = fmt.Errorf("cannot %s: %w", verb, err)
	switch answer.Code {
	case minio.NoSuchKey:
		return errors.Join(ErrNotFound, err)
	case "InvalidRange":
		return errors.Join(ErrCorrupt, err) // it is shorter than whoever asked knows it to be
	case "XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "StorageLimitExceeded":
		return errors.Join(ErrFull, err)
	}
	if answer.StatusCode == 0 || answer.StatusCode >= http.StatusInternalServerError {
		return errors.Join(ErrUnreachable, err)
	}
	return err
}
