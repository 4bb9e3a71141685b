package api

import (
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	const symbols = "!#$%&'*+-.^_`|~"
	for c := range 256 {
		b := byte(c)
		want := b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b < 0x80 && strings.IndexByte(symbols, b) >= 0
		if isToken([]byte{b}) != want {
			t.Errorf("%q is a token: %v", b, !want)
		}
	}
	if isToken(nil) {
		t.Error("nothing is a token")
	}
}

// TestHeaderNamesAreTokens: what other programs read as two names or none.
func TestHeaderNamesAreTokens(t *testing.T) {
	w := newWorld(t)
	for _, line := range []string{"X A: b", "X\x7f: b", ": b", "X(a): b", "X\x80: b", "no colon"} {
		got := w.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n" + line + "\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 400") {
			t.Errorf("%q: %.60q", line, got)
		}
	}
}
