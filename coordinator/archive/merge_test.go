package archive

import (
	"slices"
	"testing"

	"windlass/coordinator/state"
	"windlass/protocol"
)

func none(uint64) bool { return false }

// TestSegmentsStayFew follows 30 days of small segments, one each five minutes,
// and of large ones.
func TestSegmentsStayFew(t *testing.T) {
	for name, size := range map[string]int64{"1 KiB": 1 << 10, "300 KiB": 300 << 10, "4 MiB": 4 << 20} {
		var list []*state.Segment
		number, written, merged := uint64(0), int64(0), int64(0)
		most := 0
		const period = 5 * 60 * 1000
		for now := start; now < start+30*dayMs; now += period {
			number++
			list = append(list, &state.Segment{Number: number, Size: size, First: id(int(number)), Last: id(int(number)), OldestEndMs: now - period, NewestEndMs: now})
			written += size
			for group := Mergeable(list, now, none); group != nil; group = Mergeable(list, now, none) {
				g := &state.Segment{First: group[0].First, Last: group[len(group)-1].Last, OldestEndMs: now}
				for _, old := range group {
					g.Size += old.Size
					g.OldestEndMs, g.NewestEndMs = min(g.OldestEndMs, old.OldestEndMs), max(g.NewestEndMs, old.NewestEndMs)
					list = slices.DeleteFunc(list, func(g *state.Segment) bool { return g == old })
				}
				number++
				g.Number = number
				list = append(list, g)
				merged += g.Size
				if g.Size > MaxSegment || g.NewestEndMs-g.OldestEndMs > dayMs+period {
					t.Fatalf("%s: merged to %d bytes over %d days", name, g.Size, (g.NewestEndMs-g.OldestEndMs)/dayMs)
				}
			}
			most = max(most, len(list))
		}
		least := int(written / largestTier)
		t.Logf("%s: %d written, at most %d at a time, each byte was written again %.1f times", name, number, most, float64(merged)/float64(written))
		if most > 110+least || merged > 5*written {
			t.Errorf("%s: %d segments at a time, %d bytes of %d were written again", name, most, merged, written)
		}
	}
}

func TestMergeableLeavesOutWhatCannotBeRead(t *testing.T) {
	var list []*state.Segment
	for n := 1; n <= mergeWidth; n++ {
		list = append(list, &state.Segment{Number: uint64(n), Size: 1000, NewestEndMs: start, First: id(n), Last: id(n)})
	}
	if got := Mergeable(list, start, none); len(got) != mergeWidth {
		t.Fatalf("%d segments are merged", len(got))
	}
	if got := Mergeable(list, start, func(n uint64) bool { return n == 3 }); got != nil {
		t.Errorf("merged %d of one day that goes on", len(got))
	}
	if got := Mergeable(list, start+3*dayMs, func(n uint64) bool { return n == 3 }); len(got) != mergeWidth-1 {
		t.Errorf("merged %d of a day that is over", len(got))
	}
}

func TestDueTakesWhatEndedBefore(t *testing.T) {
	b := state.NewBuilder()
	if err := b.Endpoint(&state.Endpoint{Org: "org_default", ID: "ep_echo", Doc: &protocol.Endpoint{}}); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 9; n++ {
		if err := b.Job(job(n, func(j *state.Job) {
			if n == 3 {
				j.Status, j.Outcome = protocol.StatusQueued, nil
			}
		})); err != nil {
			t.Fatal(err)
		}
	}
	s := state.New()
	s.Replace(b, state.Meta{})
	size := job(1).Size()
	for _, c := range []struct {
		before int64
		limit  int
		size   int64
		want   []int
		more   bool
	}{
		{start + 6, 100, 1 << 30, []int{1, 2, 4, 5}, false},
		{start + 6, 3, 1 << 30, []int{1, 2, 4}, true},
		{start + 6, 100, 2 * size, []int{1, 2}, true},
		{start + 6, 100, 1, []int{1}, true},
		{start, 100, 1 << 30, nil, false},
		{start + 100, 100, 1 << 30, []int{1, 2, 4, 5, 6, 7, 8, 9}, false},
	} {
		rows, more := Due(s.View(), c.before, c.limit, c.size)
		var got []int
		for _, j := range rows {
			got = append(got, number(j.ID))
		}
		if !slices.Equal(got, c.want) || more != c.more {
			t.Errorf("%+v: got %v, %t", c, got, more)
		}
	}
}
