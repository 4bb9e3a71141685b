package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"windlass/scripts/chaos/check"
	"windlass/scripts/chaos/record"
)

// row is one fault of the table. A call, a loss or a stale read belongs to the
// fault that was injected last before it.
type row struct {
	name                                              string
	injected, calls, acknowledged, lost, twice, stale int
	gaps                                              []time.Duration
}

// tally sums up scenarios, of one round or of a soak of hours, and keeps no
// history of them.
type tally struct {
	rows           []*row
	sum            check.Report
	passed, failed int
}

// add takes in a scenario that ran.
func (t *tally) add(r result) {
	if r.wrong != nil {
		t.failed++
	} else {
		t.passed++
	}
	if r.report == nil {
		return
	}
	for _, row := range rows(r) {
		t.row(row.name).merge(row)
	}
	t.sum.Calls += r.report.Calls
	t.sum.Acknowledged += r.report.Acknowledged
	t.sum.Lost += r.report.Lost
	t.sum.Refused += r.report.Refused
	t.sum.Entries += r.report.Entries
	t.sum.Checked += r.report.Checked
}

func (t *tally) row(name string) *row {
	for _, r := range t.rows {
		if r.name == name {
			return r
		}
	}
	t.rows = append(t.rows, &row{name: name})
	return t.rows[len(t.rows)-1]
}

func (r *row) merge(o *row) {
	r.injected += o.injected
	r.calls += o.calls
	r.acknowledged += o.acknowledged
	r.lost += o.lost
	r.twice += o.twice
	r.stale += o.stale
	r.gaps = append(r.gaps, o.gaps...)
}

// print prints one row for each fault, and fails when anything was violated.
func (t *tally) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfault\tinjected\tcalls\tacknowledged\tlost\trun twice\tstale reads\tfailover p50\tp99")
	for _, row := range t.rows {
		p50, p99 := "", ""
		if len(row.gaps) > 0 {
			slices.Sort(row.gaps)
			p50, p99 = short(row.gaps[len(row.gaps)/2]), short(row.gaps[len(row.gaps)*99/100])
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", row.name, row.injected, row.calls, row.acknowledged, row.lost, row.twice, row.stale, p50, p99)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("\n%d calls, %d jobs acknowledged, %d lost; %d operations have a linear order; %d log entries replayed and compared; %d late writes refused\n",
		t.sum.Calls, t.sum.Acknowledged, t.sum.Lost, t.sum.Checked, t.sum.Entries, t.sum.Refused)
	if t.failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", t.failed, t.passed+t.failed)
	}
	fmt.Printf("%d passed, 0 failed\n", t.passed)
	return nil
}

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }

// rows divides a scenario's history by its faults.
func rows(r result) []*row {
	faults := slices.Clone(r.history.Faults)
	slices.SortFunc(faults, func(a, b record.Fault) int { return cmp.Compare(a.At, b.At) })
	var out []*row
	at := func(name string) *row {
		for _, row := range out {
			if row.name == name {
				return row
			}
		}
		out = append(out, &row{name: name})
		return out[len(out)-1]
	}
	of := func(when int64) *row {
		i, _ := slices.BinarySearchFunc(faults, when, func(f record.Fault, at int64) int { return cmp.Compare(f.At, at) })
		if i == 0 {
			return at("(" + r.name + ", before)")
		}
		return at(faults[i-1].Name)
	}
	for _, f := range faults {
		at(f.Name).injected++
	}
	for _, c := range r.history.Calls {
		row := of(c.Start)
		row.calls++
	}
	for when, count := range map[*[]int64]func(*row){
		&r.report.AcksAt:  func(row *row) { row.acknowledged++ },
		&r.report.LostAt:  func(row *row) { row.lost++ },
		&r.report.TwiceAt: func(row *row) { row.twice++ },
		&r.report.StaleAt: func(row *row) { row.stale++ },
	} {
		for _, t := range *when {
			count(of(t))
		}
	}
	for _, g := range check.Gaps(r.history) {
		row := at(g.Fault.Name)
		row.gaps = append(row.gaps, g.Span)
	}
	return out
}
