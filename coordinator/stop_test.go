package coordinator

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

func TestAStopIsBoundedAndNamesWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), stopTimeout)
		defer cancel()
		closed := errors.New("closed before")
		if err := within(ctx, "the log", func() error { return closed }); !errors.Is(err, closed) {
			t.Errorf("what stopped in time answers %v", err)
		}
		stuck := make(chan struct{})
		defer close(stuck)
		if err := within(ctx, "the log", func() error { <-stuck; return nil }); err == nil || !strings.Contains(err.Error(), "the log did not stop in time") {
			t.Errorf("what does not stop answers %v", err)
		}
	})
}
