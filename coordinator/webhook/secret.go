package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// secretSize is how many random bytes a secret has: as many as the hash.
const secretSize = 32

// errGone says that an organisation is deleted: nothing is signed for it any more.
var errGone = errors.New("the organisation is deleted")

// NewSecret returns the command that gives an organisation a new secret, and the
// secret's bytes.
func NewSecret(org string, now time.Time) *command.PutWebhookSecret {
	id := protocol.NewSecretID(now)
	key := make([]byte, secretSize)
	_, _ = rand.Read(key) // never returns an error
	return &command.PutWebhookSecret{Id: id[:], Org: org, Key: key}
}

// secrets returns what signs for an organisation, oldest first. Without any it
// makes one that nobody has seen: webhooks are signed from the first on, and their
// owner gets a secret to verify them with by asking for one.
func (s *Sender) secrets(ctx context.Context, org string) ([]state.WebhookSecret, error) {
	if live := s.cfg.Store.View().WebhookSecrets(org).Live(s.cfg.NowMs()); len(live) > 0 {
		return live, nil
	}
	put := NewSecret(org, time.UnixMilli(s.cfg.NowMs()))
	put.Automatic = true
	res, err := s.cfg.Write(ctx, &command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: put}})
	if err != nil {
		return nil, fmt.Errorf("cannot make a webhook secret: %w", err)
	}
	if res.Code == protocol.CodeOrgNotFound {
		return nil, errGone
	}
	// Refused: another one was made meanwhile. It is in the same log.
	if err := s.cfg.Applied(ctx, res.Index); err != nil {
		return nil, fmt.Errorf("cannot read the new webhook secret: %w", err)
	}
	live := s.cfg.Store.View().WebhookSecrets(org).Live(s.cfg.NowMs())
	if len(live) == 0 {
		return nil, fmt.Errorf("cannot make a webhook secret: %s", res.Message)
	}
	return live, nil
}
