package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"

	"github.com/oklog/ulid/v2"

	"windlass/protocol"
)

// A key's text is
//
//	wl_ ID _ SECRET CHECKSUM
//
// with the 26 characters of its public id, 64 hexadecimal digits of secret and 8
// of the CRC32 (IEEE) of everything before them: a scanner for leaked secrets
// finds it by wl_[0-9A-HJKMNP-TV-Z]{26}_[0-9a-f]{72} and knows by the checksum
// that it is no accident.
const (
	textPrefix = "wl_"
	secretSize = 32 // bytes from the system's random source
	idEnd      = len(textPrefix) + ulid.EncodedSize
	secretAt   = idEnd + 1
	secretEnd  = secretAt + 2*secretSize
	textSize   = secretEnd + 2*crc32.Size
)

// NewText returns a new text for the key with the given id, and the hash that is
// kept of it.
func NewText(id protocol.KeyID) (text string, hash [sha256.Size]byte) {
	var secret [secretSize]byte
	_, _ = rand.Read(secret[:]) // never returns an error
	b := make([]byte, 0, textSize)
	b = append(b, textPrefix...)
	b = append(b, ulid.ULID(id).String()...)
	b = append(b, '_')
	b = hex.AppendEncode(b, secret[:])
	b = hex.AppendEncode(b, checksum(b))
	return string(b), sha256.Sum256(b)
}

func checksum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(b))
}

// idOf reads the id of a key's text; false when it is none.
func idOf(text []byte) (protocol.KeyID, bool) {
	if len(text) != textSize || string(text[:len(textPrefix)]) != textPrefix || text[idEnd] != '_' {
		return protocol.KeyID{}, false
	}
	var sum [crc32.Size]byte
	if _, err := hex.Decode(sum[:], text[secretEnd:]); err != nil || binary.BigEndian.Uint32(sum[:]) != crc32.ChecksumIEEE(text[:secretEnd]) {
		return protocol.KeyID{}, false
	}
	return protocol.DecodeKeyID(text[len(textPrefix):idEnd])
}
