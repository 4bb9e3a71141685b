package protocol

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

// DeliveryState is where the webhook of an ended job stands.
type DeliveryState uint8

// The states of a delivery. All but pending are final until it is redelivered.
const (
	DeliveryPending   DeliveryState = iota + 1
	DeliveryDelivered               // a 2xx
	DeliveryFailed                  // every attempt was made
	DeliveryDisabled                // 410: the receiver wants no more of it
)

func deliveryNames() [5]string {
	return [5]string{"", "pending", "delivered", "failed", "disabled"}
}

// String returns the name.
func (s DeliveryState) String() string {
	if names := deliveryNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("delivery(%d)", uint8(s))
}

// Valid reports whether s is one of the four.
func (s DeliveryState) Valid() bool { return s >= DeliveryPending && s <= DeliveryDisabled }

// MarshalText implements encoding.TextMarshaler.
func (s DeliveryState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *DeliveryState) UnmarshalText(b []byte) error {
	for i, n := range deliveryNames() {
		if n == string(b) && i > 0 {
			*s = DeliveryState(i)
			return nil
		}
	}
	return fmt.Errorf("unknown delivery state %q: use pending, delivered, failed or disabled", clip(string(b)))
}

// The headers of a webhook. The first is seed S0's: "sha256=" and the hex HMAC-SHA256
// of the body under the secret's text. The others are those of Standard Webhooks:
// the signature is "v1," and the base64 HMAC-SHA256 of "id.timestamp.body" under
// the secret's bytes, and there are two of them while a secret is replaced.
const (
	HeaderWebhookSeed      = "X-Webhook-Signature"
	HeaderWebhookID        = "Webhook-Id"
	HeaderWebhookTimestamp = "Webhook-Timestamp"
	HeaderWebhookSignature = "Webhook-Signature"
)

// The types of webhooks.
const (
	WebhookCompleted = "job.completed"
	WebhookFailed    = "job.failed"
	WebhookCancelled = "job.cancelled"
	WebhookTimeout   = "job.timeout"
	WebhookTest      = "webhook.test"
)

// Bounds of webhooks.
const (
	// WebhookAnswer is how much of a receiver's answer the delivery log keeps.
	WebhookAnswer = 1 << 10
	// WebhookError bounds why an attempt failed.
	WebhookError = 256
	// WebhookLog is how many attempts the delivery log keeps: those of two rounds.
	WebhookLog = 10
	// MinWebhookSecret and MaxWebhookSecret bound a secret's bytes (Standard Webhooks).
	MinWebhookSecret = 24
	MaxWebhookSecret = 64
	// MaxWebhookSecrets is how many secrets of an organisation live at a time.
	MaxWebhookSecrets = 2
)

// WebhookID names the webhook of one run of a job. It is the same for every
// attempt and every redelivery: a receiver that saw it has handled it.
func WebhookID(job JobID, run uint32) string {
	b := appendID(make([]byte, 0, textSize+4), "msg_", job)
	return string(strconv.AppendUint(append(b, '_'), uint64(run), 10))
}

// WebhookDelivery is the webhook of one run of a job, as its log shows it.
type WebhookDelivery struct {
	WebhookID     string           `json:"webhookId"`
	State         DeliveryState    `json:"state"`
	URL           string           `json:"url"`
	Attempts      int              `json:"attempts"` // that were made; the log keeps the newest
	NextAttemptAt Time             `json:"nextAttemptAt,omitzero"`
	Log           []WebhookAttempt `json:"log"`
}

// WebhookAttempt is one attempt to deliver.
type WebhookAttempt struct {
	Attempt   int     `json:"attempt"`
	StartedAt Time    `json:"startedAt"`
	Latency   float64 `json:"latency"`              // seconds
	Status    int     `json:"statusCode,omitempty"` // of HTTP; absent without an answer
	Error     string  `json:"error,omitempty"`      // why it is no success
	Answer    string  `json:"answer,omitempty"`     // the first 1 KiB of its body
}

// SecretID names a webhook secret. Text "whs_" + ULID.
type SecretID [16]byte

const secretPrefix = "whs_"

// NewSecretID returns an id for a secret made at now.
func NewSecretID(now time.Time) SecretID { return SecretID(newULID(now)) }

// ParseSecretID reads the text form of a secret's id.
func ParseSecretID(s string) (SecretID, error) {
	id, err := parseID(secretPrefix, s)
	return SecretID(id), err
}

// String returns the text form.
func (id SecretID) String() string { return idText(secretPrefix, id) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id SecretID) MarshalText() ([]byte, error) { return marshalID(secretPrefix, id) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *SecretID) UnmarshalText(b []byte) error {
	return unmarshalID(secretPrefix, b, (*[16]byte)(id))
}

// WebhookSecret is one secret of an organisation. Its text is in the answer that
// makes it and nowhere else.
type WebhookSecret struct {
	ID        SecretID `json:"id"`
	Secret    string   `json:"secret,omitempty"` // "whsec_" and base64
	CreatedAt Time     `json:"createdAt"`
	ExpiresAt Time     `json:"expiresAt,omitzero"`  // it was replaced, and signs until then
	Automatic bool     `json:"automatic,omitempty"` // made for the first webhook; nobody has seen it
}

// SecretText is the form in which people and receivers handle a secret.
func SecretText(key []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(key) }

// WebhookRotation is the body of POST /v2/webhooks/secrets/rotate.
type WebhookRotation struct {
	// Overlap is for how long the secret before signs as well; nil is a day.
	Overlap *Duration `json:"overlap,omitempty"`
}

// WebhookTestRequest is the body of POST /v2/webhooks/test.
type WebhookTestRequest struct {
	URL string `json:"url"`
}

// WebhookTestResponse is how the test event went.
type WebhookTestResponse struct {
	WebhookID string `json:"webhookId"`
	Delivered bool   `json:"delivered"`
	WebhookAttempt
}
