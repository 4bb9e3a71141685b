package output

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Grant is leave to store exactly one blob, until it expires.
type Grant struct {
	SHA256    [32]byte
	Size      int64
	ExpiresMs int64 // unix
}

const grantSize = sha256.Size + 8 + 8

func (g Grant) bytes() []byte {
	b := append(make([]byte, 0, grantSize+macSize), g.SHA256[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(g.Size))
	return binary.BigEndian.AppendUint64(b, uint64(g.ExpiresMs))
}

func grantMAC(secret Secret, body []byte) []byte {
	m := hmac.New(sha256.New, secret[:])
	m.Write(append([]byte("windlass upload 1\x00"), body...))
	return m.Sum(nil)[:macSize]
}

// Token is the grant as it travels.
func (g Grant) Token(secret Secret) string {
	b := g.bytes()
	return base64.RawURLEncoding.EncodeToString(append(b, grantMAC(secret, b)...))
}

// ReadGrant reads a token; false for whatever was not made with the secret.
// Whether it has expired is the caller's to ask.
func ReadGrant(secret Secret, token string) (Grant, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != grantSize+macSize || secret == (Secret{}) {
		return Grant{}, false
	}
	body, mac := b[:grantSize], b[grantSize:]
	g := Grant{
		SHA256:    [32]byte(body),
		Size:      int64(binary.BigEndian.Uint64(body[sha256.Size:])),
		ExpiresMs: int64(binary.BigEndian.Uint64(body[sha256.Size+8:])),
	}
	return g, hmac.Equal(mac, grantMAC(secret, body))
}
