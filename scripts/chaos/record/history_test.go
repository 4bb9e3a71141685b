package record

import "testing"

// TestStolenTimeCountsOnce: stalls of the processor and of the disk overlap, and
// what hangs on one may reach into the next, or out of the span that is asked for.
func TestStolenTimeCountsOnce(t *testing.T) {
	const ms = 1_000_000
	for _, c := range []struct {
		name   string
		stalls []Stall
		want   int64
	}{
		{"none", nil, 0},
		{"one with what hangs on it", []Stall{{At: 100 * ms, Span: 20 * ms}}, 120 * ms},
		{"two at once", []Stall{{At: 100 * ms, Span: 20 * ms}, {At: 110 * ms, Span: 20 * ms}}, 130 * ms},
		{"in any order", []Stall{{At: 500 * ms, Span: 10 * ms}, {At: 100 * ms, Span: 10 * ms}}, 120 * ms},
		{"one that began before", []Stall{{At: -100 * ms, Span: 50 * ms}}, 200 * ms},
		{"one that ends after", []Stall{{At: 900 * ms, Span: 50 * ms}}, 100 * ms},
		{"more than there is", []Stall{{At: 0, Span: 900 * ms}, {At: 10 * ms, Span: 900 * ms}}, 1000 * ms},
	} {
		h := History{Stalls: c.stalls}
		if got := h.Stolen(0, 1000*ms); got != c.want {
			t.Errorf("%s: %d ms, want %d", c.name, got/ms, c.want/ms)
		}
	}
}
