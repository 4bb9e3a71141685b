package webhook

import (
	"testing/synctest"
	"time"
)

// pass lets virtual time pass, and what that set off come to rest. Outside of a
// bubble it panics, so no test really sleeps.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
