package blob_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"windlass/coordinator/blob"
)

// openS3 returns a store whose service answers by handle.
func openS3(t *testing.T, handle http.HandlerFunc) *blob.S3 {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	s, err := blob.NewS3(blob.S3Config{
		Endpoint: strings.TrimPrefix(srv.URL, "http://"), Bucket: "jobs", Region: "us-east-1", PathStyle: true, AccessKey: "key", SecretKey: "secretsecret",
	}, openDir(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func s3Fault(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>told to</Message></Error>", code)
}

func s3List(w http.ResponseWriter, keys ...string) {
	w.Header().Set("Content-Type", "application/xml")
	fmt.Fprint(w, "<ListBucketResult><IsTruncated>false</IsTruncated>")
	for _, k := range keys {
		fmt.Fprintf(w, "<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>4</Size></Contents>", k)
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func TestS3Faults(t *testing.T) {
	for code, test := range map[string]struct {
		status int
		want   error // nil: none of the store's own
	}{
		"ServiceUnavailable": {http.StatusServiceUnavailable, blob.ErrUnreachable},
		"XMinioStorageFull":  {http.StatusInsufficientStorage, blob.ErrFull},
		"QuotaExceeded":      {http.StatusForbidden, blob.ErrFull},
		"AccessDenied":       {http.StatusForbidden, nil},
		"NoSuchBucket":       {http.StatusNotFound, nil},
	} {
		t.Run(code, func(t *testing.T) {
			s := openS3(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				s3Fault(w, test.status, code)
			})
			_, _, err := s.Put(t.Context(), strings.NewReader("payload"), nil, 100)
			check(t, "put", err, test.want)
			_, _, err = s.Get(t.Context(), blob.Digest{1})
			check(t, "get", err, test.want)
			check(t, "check", s.Check(t.Context()), test.want)
			check(t, "walk", s.Walk(t.Context(), func(blob.Copy) error { return nil }), test.want)
			check(t, "remove", s.Remove(t.Context(), blob.Copy{}), test.want)
		})
	}
}

func check(t *testing.T, what string, err, want error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded", what)
	}
	for _, own := range []error{blob.ErrUnreachable, blob.ErrFull, blob.ErrNotFound} {
		if errors.Is(err, own) != (own == want) { //nolint:errorlint // the sentinel itself
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
}

func TestS3IsDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	s, err := blob.NewS3(blob.S3Config{Endpoint: strings.TrimPrefix(srv.URL, "http://"), Bucket: "jobs", Region: "us-east-1", PathStyle: true, AccessKey: "k", SecretKey: "s"}, openDir(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	check(t, "check", s.Check(t.Context()), blob.ErrUnreachable)
}

func TestS3FindsCorruption(t *testing.T) {
	d := sha256.Sum256([]byte("good"))
	s := openS3(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			s3List(w, key(d)+".01")
			return
		}
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		_, _ = w.Write([]byte("evil"))
	})
	if _, err := blob.ReadAll(t.Context(), s, d, 100); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("other bytes were served: %v", err)
	}
}

// TestS3ReadsTheNewestCopy also holds that a copy which is removed between the
// look-up and the read is looked up again.
func TestS3ReadsTheNewestCopy(t *testing.T) {
	d := sha256.Sum256([]byte("good"))
	var lists atomic.Int64
	s := openS3(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !r.URL.Query().Has("list-type") && strings.HasSuffix(r.URL.Path, ".03"):
			w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
			_, _ = w.Write([]byte("good"))
		case !r.URL.Query().Has("list-type"):
			s3Fault(w, http.StatusNotFound, "NoSuchKey")
		case lists.Add(1) == 1:
			s3List(w, key(d)+".01", key(d)+".02")
		default:
			s3List(w, key(d)+".02", key(d)+".03")
		}
	})
	b, err := blob.ReadAll(t.Context(), s, d, 100)
	if err != nil || !bytes.Equal(b, []byte("good")) {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestS3IgnoresWhatIsNotOurs(t *testing.T) {
	d := sha256.Sum256([]byte("good"))
	s := openS3(t, func(w http.ResponseWriter, _ *http.Request) {
		s3List(w, "README", key(d), "zz/"+key(d)[3:]+".01", key(d)+".01")
	})
	var found []blob.Copy
	if err := s.Walk(t.Context(), func(c blob.Copy) error { found = append(found, c); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := (blob.Copy{Digest: d, Size: 4, Version: "01"}); len(found) != 1 || found[0] != want {
		t.Errorf("found %v", found)
	}
}

// key is how an object's name begins.
func key(d blob.Digest) string { return fmt.Sprintf("%x/%x", d[:1], d) }

// TestCollectorRemovesOlderCopies: where every Put makes a copy, those before
// the newest one are garbage although their blob is named.
func TestCollectorRemovesOlderCopies(t *testing.T) {
	d := sha256.Sum256([]byte("good"))
	var removed []string
	s := openS3(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			removed = append(removed, r.URL.Path)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		s3List(w, key(d)+".01", key(d)+".02", key(d)+".03")
	})
	c := blob.NewCollector(s, (&naming{set: map[blob.Digest]bool{d: true}}).list)
	for range rounds + 1 {
		round(t, c)
	}
	if want := "[/jobs/" + key(d) + ".01 /jobs/" + key(d) + ".02]"; fmt.Sprint(removed) != want {
		t.Errorf("removed %v, want %s", removed, want)
	}
}
