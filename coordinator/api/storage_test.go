package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"windlass/coordinator/blob"
	"windlass/protocol"
)

func TestPayloadErrorsAreAnswered(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	for name, test := range map[string]struct {
		err    error
		status int
	}{
		"disk full":                  {storageError(wrap(blob.ErrFull)), http.StatusInsufficientStorage},
		"disks of others full":       {storageError(errors.Join(blob.ErrNoMajority, blob.ErrFull)), http.StatusInsufficientStorage},
		"too few can be reached":     {storageError(wrap(blob.ErrNoMajority)), http.StatusServiceUnavailable},
		"S3 is down":                 {storageError(wrap(blob.ErrUnreachable)), http.StatusServiceUnavailable},
		"nobody answered in time":    {storageError(context.DeadlineExceeded), http.StatusServiceUnavailable},
		"too large":                  {storageError(wrap(blob.ErrTooLarge)), http.StatusRequestEntityTooLarge},
		"who has it cannot be asked": {unreadable(wrap(blob.ErrUnreachable)), http.StatusServiceUnavailable},
	} {
		var e *protocol.Error
		if !errors.As(test.err, &e) || e.Code.HTTPStatus() != test.status {
			t.Errorf("%s: %v, want %d", name, test.err, test.status)
			continue
		}
		if test.status == http.StatusServiceUnavailable && e.Details["retryAfter"] == nil {
			t.Errorf("%s: it does not say when to try again", name)
		}
	}
	var e *protocol.Error
	if err := storageError(blob.ErrNoMajority); !errors.As(err, &e) || e.Details["outcome"] != "none" {
		t.Errorf("it does not say that nothing happened: %v", err)
	}
}
