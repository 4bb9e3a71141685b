package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"windlass/protocol"
)

const key = "0123456789abcdef0123"

func TestAuthenticate(t *testing.T) {
	keys, err := NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{key, "Bearer " + key, "bearer " + key, "BEARER   " + key + " "} {
		id := keys.Authenticate([]byte(header))
		if id == nil || id.Org != protocol.OrgDefault || !id.May(ClusterAdmin) {
			t.Errorf("%q was not accepted", header)
		}
	}
	for _, header := range []string{"", "Bearer", "Bearer ", key[:len(key)-1], key + "x", "Basic " + key, "Bearer Bearer " + key, strings.Repeat("a", 10_000)} {
		if keys.Authenticate([]byte(header)) != nil {
			t.Errorf("%q was accepted", header)
		}
	}
}

func TestNewKeysRefuses(t *testing.T) {
	for _, k := range []string{"", "short", strings.Repeat("x", 15), "0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdéf0"} {
		_, err := NewKeys(k)
		if err == nil {
			t.Errorf("%q was accepted", k)
			continue
		}
		if k != "" && strings.Contains(err.Error(), k) {
			t.Errorf("the error repeats the key %q", k)
		}
	}
}

func TestLoadKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := LoadKeys(path); err == nil {
		t.Error("a missing file was accepted")
	}
	if err := os.WriteFile(path, []byte("  "+key+"\r\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	if keys.Authenticate([]byte("Bearer "+key)) == nil {
		t.Error("the key of the file is not accepted")
	}
}

func FuzzAuthenticate(f *testing.F) {
	keys, err := NewKeys(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("Bearer " + key))
	f.Add([]byte(" bearer\t" + key))
	f.Fuzz(func(t *testing.T, header []byte) {
		if keys.Authenticate(header) != nil && !strings.Contains(string(header), key) {
			t.Fatalf("%q was accepted without the key", header)
		}
	})
}
