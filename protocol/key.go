package protocol

// Permission is one right, "jobs:read" for example. DESIGN 7 lists all of them.
type Permission string

// KeyStatus says whether a key opens anything.
type KeyStatus string

// The states of a key.
const (
	KeyActive  KeyStatus = "active"
	KeyExpired KeyStatus = "expired"
	KeyRevoked KeyStatus = "revoked"
)

// Key is an API key, as /v2/keys shows it. Its text is shown once, by the answer
// that made it; of it only a hash is kept.
type Key struct {
	ID          string       `json:"id"` // key_...; "key_bootstrap" is that of the configuration
	Key         string       `json:"key,omitempty"`
	Org         string       `json:"org"`
	Name        string       `json:"name,omitempty"`
	Status      KeyStatus    `json:"status"`
	Permissions []Permission `json:"permissions"`
	Endpoints   []string     `json:"endpoints,omitempty"` // that it is bound to; absent: all of the organisation
	CreatedAt   Time         `json:"createdAt,omitzero"`
	ExpiresAt   Time         `json:"expiresAt,omitzero"`
	RotatedAt   Time         `json:"rotatedAt,omitzero"`
	// OverlapUntil is until when the text before the newest rotation is valid.
	OverlapUntil Time `json:"overlapUntil,omitzero"`
	RevokedAt    Time `json:"revokedAt,omitzero"`
}

// KeyRequest is the body of POST /v2/keys. A key cannot grant what it lacks
// itself: permissions, endpoints, or a later end.
type KeyRequest struct {
	Name        string       `json:"name,omitempty"`
	Org         string       `json:"org,omitempty"` // another than the caller's needs cluster:admin
	Permissions []Permission `json:"permissions"`
	Endpoints   []string     `json:"endpoints,omitempty"`
	ExpiresAt   Time         `json:"expiresAt,omitzero"`
}

// KeyRotation is the body of POST /v2/keys/{id}/rotate: for how long the old text
// stays valid. Without it that is a day.
type KeyRotation struct {
	Overlap *Duration `json:"overlap,omitempty"`
}
