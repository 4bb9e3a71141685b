package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// MinKeyLength is the shortest bootstrap key that is accepted: 16 characters of a
// base64 alphabet are 96 bits, beyond guessing over a network.
const MinKeyLength = 16

// maxKeyLength bounds what is hashed for a request; the header buffer of the
// server is smaller than this allows.
const maxKeyLength = 4096

// Keys finds who is behind a key: the bootstrap key of the configuration, or one
// of the replicated keys. It is immutable and safe for concurrent use. Of a key
// only its SHA-256 is kept.
type Keys struct {
	bootstrap [sha256.Size]byte
	identity  Identity
}

// NewKeys accepts one bootstrap key.
func NewKeys(bootstrap string) (*Keys, error) {
	if len(bootstrap) < MinKeyLength || len(bootstrap) > maxKeyLength {
		return nil, fmt.Errorf("cannot use API key: it has %d characters; choose one of at least %d, for example with: openssl rand -hex 32", len(bootstrap), MinKeyLength)
	}
	for _, c := range []byte(bootstrap) {
		if c <= ' ' || c > '~' {
			return nil, fmt.Errorf("cannot use API key: it holds a space, a control character or a character beyond ASCII, which no HTTP header can carry; choose another")
		}
	}
	return &Keys{
		bootstrap: sha256.Sum256([]byte(bootstrap)),
		identity:  Identity{Org: protocol.OrgDefault, Permissions: Permissions(), Unlimited: true},
	}, nil
}

// LoadKeys reads the bootstrap key from the first line of a file.
func LoadKeys(path string) (*Keys, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read API key file: %w; write a key of at least %d characters into it", err, MinKeyLength)
	}
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	keys, err := NewKeys(string(bytes.TrimSpace(line)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// Verdict is what Authenticate found.
type Verdict uint8

// The verdicts.
const (
	// Unknown is no key at all, or one that is not valid.
	Unknown Verdict = iota
	// Unheard has the form of a key whose id or text the view lacks: it may have
	// been made elsewhere a moment ago.
	Unheard
	// Valid is a key.
	Valid
)

// Authenticate reads the value of an Authorization header, "Bearer KEY" or the
// bare key, and returns who is behind it at the given time, by the keys of the
// view. The time it takes says nothing about the keys: every attempt is hashed
// once and compared as often, whether its id is known or not. It allocates
// nothing.
func (k *Keys) Authenticate(header []byte, view *state.View, nowMs int64) (Identity, Verdict) {
	text := bearer(header)
	sum := sha256.Sum256(text)
	// The dummy has the form of a row and a hash that no text has.
	row, dummy := (*state.APIKey)(nil), state.APIKey{}
	id, formed := idOf(text)
	if formed {
		row = view.APIKey(id)
	}
	known := row != nil
	if !known {
		row = &dummy
	}
	bootstrap := subtle.ConstantTimeCompare(sum[:], k.bootstrap[:])
	current := subtle.ConstantTimeCompare(sum[:], row.Hash[:])
	older := subtle.ConstantTimeCompare(sum[:], row.Older[:])
	switch {
	case bootstrap == 1:
		return k.identity, Valid
	case known && row.Live(nowMs) && (current == 1 || older == 1 && nowMs < row.OlderMs):
		return identify(row), Valid
	case formed && (!known || row.Live(nowMs) && older == 0):
		return Identity{}, Unheard
	}
	return Identity{}, Unknown
}

func identify(row *state.APIKey) Identity {
	return Identity{Org: row.Org, Key: row.ID, Permissions: row.Permissions, Endpoints: row.Endpoints, ExpiresMs: row.ExpiresMs}
}

// bearer strips the scheme, whose name is case-insensitive (RFC 9110 11.1).
func bearer(header []byte) []byte {
	const scheme = "bearer "
	header = bytes.TrimSpace(header)
	if len(header) > len(scheme) && bytes.EqualFold(header[:len(scheme)], []byte(scheme)) {
		header = bytes.TrimSpace(header[len(scheme):])
	}
	if len(header) > maxKeyLength {
		return nil
	}
	return header
}
