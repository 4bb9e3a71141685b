package coordinator

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// inBucket is a configuration whose payloads are in a bucket of srv.
func inBucket(t *testing.T, srv *httptest.Server) Config {
	t.Helper()
	cfg := onDisk(t, t.TempDir())
	keys := filepath.Join(t.TempDir(), "s3")
	if err := os.WriteFile(keys, []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Blob = BlobConfig{Kind: blobS3, S3: S3Config{
		Endpoint: strings.TrimPrefix(srv.URL, "http://"), Bucket: "jobs", Region: "us-east-1", PathStyle: true, AccessKeyFile: keys, SecretKeyFile: keys,
	}}
	return cfg
}

func TestStartLooksAtTheBucket(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc // nil: nobody answers
		change func(*Config)
		want   string
	}{
		"fine":       {status(http.StatusOK, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`), nil, ""},
		"refused":    {status(http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`), nil, "keys that may list it"},
		"no bucket":  {status(http.StatusNotFound, `<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>`), nil, "a bucket that exists"},
		"down":       {nil, nil, ""}, // its outage is not ours
		"no keys":    {nil, func(c *Config) { c.Blob.S3.AccessKeyFile, c.Blob.S3.SecretKeyFile = "", "" }, "AWS_ACCESS_KEY_ID"},
		"no file":    {nil, func(c *Config) { c.Blob.S3.SecretKeyFile = "/nowhere" }, "blob.s3.secretKeyFile"},
		"no name":    {nil, func(c *Config) { c.Blob.S3.Bucket = "b" }, "the name of a bucket there"},
		"no service": {nil, func(c *Config) { c.Blob.S3.Endpoint = "a b" }, "host:port of the service"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			srv := httptest.NewServer(test.answer)
			defer srv.Close()
			cfg := inBucket(t, srv)
			if test.answer == nil {
				srv.Close()
			}
			if test.change != nil {
				test.change(&cfg)
			}
			c, err := New(cfg, zerolog.Nop())
			if err == nil {
				err = c.releaseAll()
				if !c.blobs.shared {
					t.Error("each coordinator would collect in the bucket")
				}
			}
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("start: %v, want %q", err, test.want)
			}
		})
	}
}
