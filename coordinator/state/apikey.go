package state

import (
	"bytes"
	"slices"

	"windlass/protocol"
)

// APIKey is a credential of an organisation. Of its text only hashes are kept.
type APIKey struct {
	ID          protocol.KeyID
	Org         string
	Name        string
	Permissions []protocol.Permission // sorted
	Endpoints   []string              // that it is bound to, sorted; none: all of the organisation
	Hash        [32]byte              // SHA-256 of the text
	Older       [32]byte              // of the text before the newest rotation
	OlderMs     int64                 // until when Older is valid
	CreatedMs   int64
	ExpiresMs   int64 // 0: never
	RotatedMs   int64 // the newest rotation; 0: never
	RevokedMs   int64 // 0: it is not
	Index       uint64
}

// Live reports whether the key opens anything at the given time.
func (k *APIKey) Live(nowMs int64) bool {
	return k.RevokedMs == 0 && (k.ExpiresMs == 0 || nowMs < k.ExpiresMs)
}

// compareKey orders keys by their ids.
func compareKey(k *APIKey, id protocol.KeyID) int { return bytes.Compare(k.ID[:], id[:]) }

// APIKey returns a key, or nil. It allocates nothing: every request comes here.
func (v *View) APIKey(id protocol.KeyID) *APIKey { return keyIn(v.apiKeys, id) }

func keyIn(list []*APIKey, id protocol.KeyID) *APIKey {
	if at, ok := slices.BinarySearchFunc(list, id, compareKey); ok {
		return list[at]
	}
	return nil
}

// APIKeys returns all keys, sorted by id. The list is the view's: it must not be
// changed.
func (v *View) APIKeys() []*APIKey { return v.apiKeys }

// APIKey returns a key, or nil.
func (t *Txn) APIKey(id protocol.KeyID) *APIKey { return keyIn(t.apiKeys, id) }

// APIKeys returns the keys as this transaction left them, sorted by id.
func (t *Txn) APIKeys() []*APIKey { return t.apiKeys }

// PutAPIKey writes a key.
func (t *Txn) PutAPIKey(k *APIKey) {
	at, ok := slices.BinarySearchFunc(t.apiKeys, k.ID, compareKey)
	own := slices.Clone(t.apiKeys) // views have the list
	if ok {
		t.bytes -= own[at].Size()
		own[at] = k
	} else {
		own = slices.Insert(own, at, k)
	}
	t.apiKeys = own
	t.bytes += k.Size()
}

// DropAPIKeys forgets the keys that the function names.
func (t *Txn) DropAPIKeys(drop func(*APIKey) bool) {
	t.apiKeys = slices.DeleteFunc(slices.Clone(t.apiKeys), func(k *APIKey) bool {
		if !drop(k) {
			return false
		}
		t.bytes -= k.Size()
		return true
	})
}
