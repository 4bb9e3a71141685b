// Package auth decides who a caller is and what a caller may do.
//
// One bootstrap key exists so far; it may do everything in the first
// organisation. Routes name their permission already, so that keys with fewer
// permissions change nothing but this package.
package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"slices"

	"windlass/protocol"
)

// Permission is one right (DESIGN 7).
type Permission string

// The permissions.
const (
	JobsRead         Permission = "jobs:read"
	JobsWrite        Permission = "jobs:write"
	EndpointsExecute Permission = "endpoints:execute"
	EndpointsWrite   Permission = "endpoints:write"
	AgentsManage     Permission = "agents:manage"
	KeysManage       Permission = "keys:manage"
	ClusterAdmin     Permission = "cluster:admin"
)

// Permissions returns every permission.
func Permissions() []Permission {
	return []Permission{JobsRead, JobsWrite, EndpointsExecute, EndpointsWrite, AgentsManage, KeysManage, ClusterAdmin}
}

// Identity is who a request comes from.
type Identity struct {
	Org         string
	KeyID       string // a name for logs and limits, never the key
	Permissions []Permission
	Unlimited   bool // no rate limit applies (DESIGN 4: bootstrap and dev keys)
}

// May reports whether the identity holds permission p.
func (i *Identity) May(p Permission) bool { return slices.Contains(i.Permissions, p) }

// BootstrapKeyID is the key id of the bootstrap key.
const BootstrapKeyID = "key_bootstrap"

// MinKeyLength is the shortest key that is accepted: 16 characters of a base64
// alphabet are 96 bits, beyond guessing over a network.
const MinKeyLength = 16

// maxKeyLength bounds what is hashed for a request; the header buffer of the
// server is smaller than this allows.
const maxKeyLength = 4096

// Keys knows the keys of this coordinator. It is immutable and safe for
// concurrent use. Of a key only its SHA-256 is kept.
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
		identity:  Identity{Org: protocol.OrgDefault, KeyID: BootstrapKeyID, Permissions: Permissions(), Unlimited: true},
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

// Authenticate reads the value of an Authorization header, "Bearer KEY" or the
// bare key, and returns the identity behind it; nil when there is none. The
// time it takes says nothing about the key. The result is shared: read-only.
func (k *Keys) Authenticate(header []byte) *Identity {
	key := bearer(header)
	sum := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(sum[:], k.bootstrap[:]) != 1 {
		return nil
	}
	return &k.identity
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
