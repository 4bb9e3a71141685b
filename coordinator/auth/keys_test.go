package auth

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const key = "0123456789abcdef0123"

func bootstrap(t testing.TB) *Keys {
	t.Helper()
	keys, err := NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// holding returns the view of a state with the given keys.
func holding(t testing.TB, rows ...*state.APIKey) *state.View {
	t.Helper()
	b := state.NewBuilder()
	for _, row := range rows {
		if err := b.APIKey(row); err != nil {
			t.Fatal(err)
		}
	}
	s := state.New()
	s.Replace(b, state.Meta{})
	return s.View()
}

// made returns a new key's row and text.
func made(t testing.TB) (*state.APIKey, string) {
	t.Helper()
	id := protocol.NewKeyID(time.UnixMilli(1))
	text, hash := NewText(id)
	return &state.APIKey{ID: id, Org: "org_a", Permissions: []Permission{JobsRead}, Hash: hash}, text
}

func TestBootstrapKey(t *testing.T) {
	keys, view := bootstrap(t), state.New().View()
	for _, header := range []string{key, "Bearer " + key, "bearer " + key, "BEARER   " + key + " "} {
		id, verdict := keys.Authenticate([]byte(header), view, 0)
		if verdict != Valid || id.Org != protocol.OrgDefault || !id.May(ClusterAdmin) || !id.Unlimited || id.KeyID() != BootstrapKeyID {
			t.Errorf("%q was not accepted", header)
		}
	}
	for _, header := range []string{"", "Bearer", "Bearer ", key[:len(key)-1], key + "x", "Basic " + key, "Bearer Bearer " + key, strings.Repeat("a", 10_000)} {
		if id, verdict := keys.Authenticate([]byte(header), view, 0); verdict != Unknown || id.Org != "" {
			t.Errorf("%q was accepted", header)
		}
	}
}

func TestReplicatedKeys(t *testing.T) {
	row, text := made(t)
	_, foreign := made(t)
	old, oldText := made(t)
	old.Older, old.OlderMs = sha256.Sum256([]byte(text)), 0
	ended, endedText := made(t)
	ended.ExpiresMs = 50
	gone, goneText := made(t)
	gone.RevokedMs = 1
	turned, turnedText := made(t)
	before, beforeHash := NewText(turned.ID)
	turned.Older, turned.OlderMs = beforeHash, 80
	rows := []*state.APIKey{row, old, ended, gone, turned}
	slices.SortFunc(rows, func(a, b *state.APIKey) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	view, keys := holding(t, rows...), bootstrap(t)
	flipped := []byte(text)
	flipped[len(flipped)-1] ^= 1
	mixed := turnedText[:secretAt] + text[secretAt:secretEnd]
	mixed += string(hexSum(mixed))
	for name, c := range map[string]struct {
		text string
		now  int64
		want Verdict
	}{
		"valid":                     {text, 10, Valid},
		"never made":                {foreign, 10, Unheard},
		"checksum":                  {string(flipped), 10, Unknown},
		"another secret":            {mixed, 10, Unheard},
		"before its end":            {endedText, 49, Valid},
		"at its end":                {endedText, 50, Unknown},
		"revoked":                   {goneText, 10, Unknown},
		"new text":                  {turnedText, 10, Valid},
		"old text in the overlap":   {before, 79, Valid},
		"old text after it":         {before, 80, Unknown},
		"with an overlap that is 0": {oldText, 10, Valid},
	} {
		id, verdict := keys.Authenticate([]byte("Bearer "+c.text), view, c.now)
		if verdict != c.want || (verdict == Valid) != (id.Org == "org_a") || id.Unlimited {
			t.Errorf("%s: %d, %+v", name, verdict, id)
		}
	}
}

func hexSum(text string) []byte {
	const digits = "0123456789abcdef"
	var out []byte
	for _, b := range checksum([]byte(text)) {
		out = append(out, digits[b>>4], digits[b&15])
	}
	return out
}

// TestKeysAreScannable: the form that is published for secret scanners.
func TestKeysAreScannable(t *testing.T) {
	form := regexp.MustCompile(`^wl_[0-9A-HJKMNP-TV-Z]{26}_[0-9a-f]{72}$`)
	seen := map[string]bool{}
	for range 100 {
		id := protocol.NewKeyID(time.Now())
		text, hash := NewText(id)
		if !form.MatchString(text) || seen[text] || hash != sha256.Sum256([]byte(text)) {
			t.Fatalf("%s", text)
		}
		seen[text] = true
		if got, ok := idOf([]byte(text)); !ok || got != id {
			t.Fatalf("%s is read as %v", text, got)
		}
	}
}

func TestBoundKeysReachTheirEndpoints(t *testing.T) {
	all, bound := Identity{Org: "o"}, Identity{Org: "o", Endpoints: []string{"a", "c"}}
	if !all.Reaches("o", "b") || !bound.Reaches("o", "a") || !bound.Reaches("o", "c") {
		t.Error("an endpoint is not reached")
	}
	if all.Reaches("p", "b") || bound.Reaches("o", "b") || bound.Reaches("p", "a") {
		t.Error("another endpoint is reached")
	}
}

// TestAuthenticateAllocatesNothing: it is on the way of every request.
func TestAuthenticateAllocatesNothing(t *testing.T) {
	row, text := made(t)
	_, unknown := made(t)
	view, keys := holding(t, row), bootstrap(t)
	for _, header := range []string{"Bearer " + text, "Bearer " + unknown, "Bearer " + key, "nonsense"} {
		h := []byte(header)
		if n := testing.AllocsPerRun(100, func() { keys.Authenticate(h, view, 1) }); n != 0 {
			t.Errorf("%.20s: %v allocations", header, n)
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
	if _, verdict := keys.Authenticate([]byte("Bearer "+key), state.New().View(), 0); verdict != Valid {
		t.Error("the key of the file is not accepted")
	}
}

func FuzzAuthenticate(f *testing.F) {
	row, text := made(f)
	view, keys := holding(f, row), bootstrap(f)
	f.Add([]byte("Bearer " + key))
	f.Add([]byte(" bearer\t" + key))
	f.Add([]byte("Bearer " + text))
	f.Fuzz(func(t *testing.T, header []byte) {
		_, verdict := keys.Authenticate(header, view, 1)
		if verdict == Valid && !strings.Contains(string(header), key) && !strings.Contains(string(header), text) {
			t.Fatalf("%q was accepted without a key", header)
		}
	})
}

func BenchmarkAuthenticate(b *testing.B) {
	row, text := made(b)
	view, keys := holding(b, row), bootstrap(b)
	header := []byte("Bearer " + text)
	b.ReportAllocs()
	for b.Loop() {
		keys.Authenticate(header, view, 1)
	}
}
