package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// signer signs one attempt while the body passes through it.
type signer struct {
	id        string
	timestamp string // unix seconds
	standard  []hash.Hash
	seed      hash.Hash
}

// newSigner takes the secrets that sign, oldest first. Seed S0 has one signature:
// it is that of the oldest secret, so that a receiver which knows only that one
// goes on until it has the new one. Its key is the secret's text, as S0 verifies;
// that of Standard Webhooks is its bytes.
func newSigner(id string, unixSeconds int64, secrets []state.WebhookSecret) *signer {
	s := &signer{
		id: id, timestamp: strconv.FormatInt(unixSeconds, 10),
		seed: hmac.New(sha256.New, []byte(protocol.SecretText(secrets[0].Key))),
	}
	for i := len(secrets) - 1; i >= 0; i-- {
		h := hmac.New(sha256.New, secrets[i].Key)
		io.WriteString(h, s.id+"."+s.timestamp+".") // a hash never fails
		s.standard = append(s.standard, h)
	}
	return s
}

// read signs all of a body.
func (s *signer) read(body io.Reader) error {
	to := []io.Writer{s.seed}
	for _, h := range s.standard {
		to = append(to, h)
	}
	if _, err := io.Copy(io.MultiWriter(to...), body); err != nil {
		return fmt.Errorf("cannot sign the webhook: %w", err)
	}
	return nil
}

// header sets what a receiver verifies.
func (s *signer) header(to http.Header) {
	list := make([]string, len(s.standard))
	for i, h := range s.standard {
		list[i] = "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	to.Set(protocol.HeaderWebhookID, s.id)
	to.Set(protocol.HeaderWebhookTimestamp, s.timestamp)
	to.Set(protocol.HeaderWebhookSignature, strings.Join(list, " "))
	to.Set(protocol.HeaderWebhookSeed, "sha256="+hex.EncodeToString(s.seed.Sum(nil)))
}
