package command

import (
	"cmp"
	"fmt"

	"windlass/protocol"
)

func checkPutWebhookSecret(p *PutWebhookSecret) error {
	if err := cmp.Or(checkIDs("secret", p.GetId()), checkNames("org", p.GetOrg())); err != nil {
		return err
	}
	switch n := len(p.GetKey()); {
	case n < protocol.MinWebhookSecret || n > protocol.MaxWebhookSecret:
		return fmt.Errorf("a webhook secret must have %d to %d bytes", protocol.MinWebhookSecret, protocol.MaxWebhookSecret)
	case p.GetAutomatic() && p.GetRotate():
		return fmt.Errorf("a secret that is made by itself replaces none")
	case p.GetOverlapMs() < 0:
		return fmt.Errorf("overlap_ms must not be negative")
	}
	return nil
}

func checkRecordDelivery(r *RecordDelivery) error {
	if err := cmp.Or(checkIDs("job", r.GetJob()), checkText(r.GetError(), r.GetAnswer())); err != nil {
		return err
	}
	if _, ok := RecordDelivery_Outcome_name[int32(r.GetOutcome())]; !ok || r.GetOutcome() == RecordDelivery_UNSPECIFIED {
		return fmt.Errorf("delivery outcome %d is unknown", r.GetOutcome())
	}
	switch {
	case r.GetAttempt() == 0:
		return fmt.Errorf("a delivery's attempt must not be 0")
	case (r.GetOutcome() == RecordDelivery_RETRY) != (r.GetNextMs() > 0):
		return fmt.Errorf("a delivery has a next time if it is tried again, and only then")
	case len(r.GetError()) > protocol.WebhookError || len(r.GetAnswer()) > protocol.WebhookAnswer:
		return fmt.Errorf("a delivery's error and answer must have at most %d and %d bytes", protocol.WebhookError, protocol.WebhookAnswer)
	}
	return nil
}
