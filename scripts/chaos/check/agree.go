package check

import (
	"bytes"
	"cmp"
	"slices"

	"windlass/scripts/chaos/record"
)

// finals is I17 at the end: coordinators that applied the same log hold the same.
func (r *Report) finals(h *record.History) {
	byIndex := make(map[uint64]record.Final)
	for _, f := range h.Finals {
		if f.Digest == "" {
			continue
		}
		first, seen := byIndex[f.Index]
		if !seen {
			byIndex[f.Index] = f
			continue
		}
		if first.Digest != f.Digest {
			r.add("I17", "%s and %s applied the log up to %d and differ: digest %.12s and %.12s", first.Node, f.Node, f.Index, first.Digest, f.Digest)
		}
	}
}

// agree is I17 on the way: what one coordinator applied at an index, with its
// results, is what every other one applies there, also after a restart.
func (r *Report) agree(h *record.History) {
	slices.SortStableFunc(h.Applied, func(a, b record.Applied) int { return cmp.Compare(a.Index, b.Index) })
	for i := 1; i < len(h.Applied); i++ {
		a, b := h.Applied[i-1], h.Applied[i]
		if a.Index != b.Index {
			continue
		}
		if !bytes.Equal(a.Data, b.Data) {
			r.add("I17", "%s and %s applied different entries at index %d (terms %d and %d)", a.Node, b.Node, a.Index, a.Term, b.Term)
		} else if !bytes.Equal(a.Results, b.Results) {
			r.add("I17", "%s and %s applied the same entry at index %d with different results: %s and %s", a.Node, b.Node, a.Index, a.Results, b.Results)
		}
	}
}
