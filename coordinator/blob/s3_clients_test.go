//go:build clients

package blob_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"windlass/coordinator/blob"
	"windlass/coordinator/blob/blobtest"
)

// s3Server is a real S3 service in one Go binary, built from the module proxy.
const s3Server = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// TestS3Server runs the conformance suite against a real server: with a prefix
// and without, and with parts (a blob above the library's part size).
func TestS3Server(t *testing.T) {
	addr := startS3(t)
	api, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4("key", "secretsecret", ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	for name, prefix := range map[string]string{"no prefix": "", "prefix": "windlass/blobs/"} {
		t.Run(name, func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Store {
				bucket := "b" + fmt.Sprintf("%x", rand.Text())[:40]
				if err := api.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
					t.Fatal(err)
				}
				s, err := blob.NewS3(blob.S3Config{
					Endpoint: addr, Bucket: bucket, Prefix: prefix, PathStyle: true, AccessKey: "key", SecretKey: "secretsecret",
				}, openDir(t, t.TempDir()))
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// startS3 installs and starts the server, and waits until it takes connections.
func startS3(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	install := exec.CommandContext(t.Context(), "go", "install", s3Server)
	install.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	install.Dir = dir // outside of this module: its go.mod decides nothing here
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("cannot install %s: %v\n%s", s3Server, err, out)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	root := filepath.Join(dir, "buckets")
	if err := os.Mkdir(root, 0o750); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "versitygw"), "--quiet", "--port", addr, "--access", "key", "--secret", "secretsecret", "posix", root)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	dialer := net.Dialer{Timeout: time.Second}
	for t.Context().Err() == nil {
		if c, err := dialer.DialContext(t.Context(), "tcp", addr); err == nil {
			c.Close()
			return addr
		}
	}
	t.Fatal("the S3 server does not answer")
	return ""
}
