package main

import (
	"context"
	"fmt"
	"strings"
)

// gateRounds is enough that one disturbed round does not decide.
const gateRounds = 3

// budget is the most that a job may cost, submit to result, in processor time
// of all coordinators together, as a multiple of one plain HTTP request and its
// answer on the same machine in the same minute. It is half above what was measured
// when it was set on a quiet machine (6.4 and 12.8), because beside other work both
// figures of the ratio move (6.4 to 8.9 with one coordinator).
type budget struct {
	nodes string
	most  float64
}

func budgets() []budget { return []budget{{"1", 10}, {"3", 20}} }

// gate fails when a job costs more than its budget.
func gate(ctx context.Context, binary string) error {
	var over []string
	for _, b := range budgets() {
		var ratios []float64
		for range gateRounds {
			out, err := windlass(ctx, binary, "cycle", "--nodes", b.nodes, "--time", "3s")
			if err != nil {
				return err
			}
			job, err := figure(out, `server CPU per job\s+([0-9.]+) us`)
			if err != nil {
				return err
			}
			plain, err := figure(out, `CPU per plain request\s+([0-9.]+) us`)
			if err != nil {
				return err
			}
			ratios = append(ratios, job/plain)
		}
		ratio := median(ratios)
		fmt.Printf("%s coordinators: CPU per job is %.2f plain requests (%.2f), budget %.2f\n", b.nodes, ratio, ratios, b.most)
		if ratio > b.most {
			over = append(over, fmt.Sprintf("%s coordinators: %.2f > %.2f", b.nodes, ratio, b.most))
		}
	}
	if over != nil {
		return fmt.Errorf("a job costs more processor time than its budget: %s: profile with `windlass bench cycle`, and raise a budget only with the reason in docs/performance.md", strings.Join(over, "; "))
	}
	return nil
}
