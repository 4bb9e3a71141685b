package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A bug may make its test hang. It gets what all named tests of its package take
// without any bug, some times over, and never less than leastLimit.
const (
	limitFactor = 4
	leastLimit  = 20 * time.Second
	mostLimit   = 5 * time.Minute // of a baseline

	// baselineTries is how often the tests may fail without any bug before that is
	// what is reported: what a busy machine breaks once it does not break twice.
	baselineTries = 2

	// A machine that others use may give a test nothing for a while. Before a test
	// counts as hanging it gets this much more time.
	doubtFactor = 4
)

// baseline is what the tests of one package say without any bug. They run once,
// however many mutants name them.
type baseline struct {
	pkg     string
	tests   []string
	output  string
	failure string
	limit   time.Duration // for each mutant's test
}

// group gives each mutant the baseline of its package.
func group(mutants []*mutant) []*baseline {
	var all []*baseline
	for _, m := range mutants {
		i := slices.IndexFunc(all, func(b *baseline) bool { return b.pkg == m.pkg })
		if i < 0 {
			i = len(all)
			all = append(all, &baseline{pkg: m.pkg})
		}
		m.base = all[i]
		if !slices.Contains(m.base.tests, m.tests) {
			m.base.tests = append(m.base.tests, m.tests)
		}
	}
	return all
}

func baselines(ctx context.Context, all []*baseline, workers int) {
	each(workers, all, func(b *baseline) {
		failed := true
		for n := 0; failed && n < baselineTries && ctx.Err() == nil; n++ {
			begin := time.Now()
			b.output, failed = goTest(ctx, b.pkg, b.tests, mostLimit)
			b.limit = max(limitFactor*time.Since(begin), leastLimit)
		}
		if failed {
			b.failure = failing(b.output)
		}
	})
}

// ran reports whether a test ran and passed.
func (b *baseline) ran(test string) bool {
	return strings.Contains(b.output, "--- PASS: "+test+" (")
}

// goTest runs tests of one package; true when they fail.
func goTest(ctx context.Context, pkg string, tests []string, limit time.Duration, more ...string) (output string, failed bool) {
	var patterns []string
	for _, t := range tests {
		patterns = append(patterns, pattern(t))
	}
	args := append([]string{"test", "-v", "-count=1", "-vet=off", "-timeout", limit.String(), "-run", strings.Join(patterns, "|")}, more...)
	args = append(args, pkg)
	if usesRapid(pkg) {
		// Whether it fails matters, not by how little; and the tree is left as it is.
		args = append(args, "-rapid.shrinktime=1s", "-rapid.nofailfile")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	b, err := cmd.CombinedOutput()
	return string(b), err != nil
}

// failing is what an output says of the tests that failed: their names, and how
// rapid is told to draw the same again; else its end.
func failing(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "--- FAIL") || strings.Contains(line, "-rapid.seed") || strings.Contains(line, "_test.go:") && !strings.Contains(line, "[rapid] draw") {
			lines = append(lines, line)
		}
	}
	const shown = 30 // of what may be thousands
	if len(lines) == 0 {
		lines = strings.SplitAfter(out, "\n")
		lines = lines[max(0, len(lines)-shown):]
	}
	return strings.Join(lines[:min(len(lines), shown)], "")
}

// usesRapid reports whether the tests of a package draw their cases with rapid.
func usesRapid(pkg string) bool {
	files, _ := filepath.Glob(filepath.Join(pkg, "*_test.go")) // fails only for a pattern that is none
	return slices.ContainsFunc(files, func(f string) bool {
		text, err := os.ReadFile(f)
		return err == nil && strings.Contains(string(text), `"pgregory.net/rapid"`)
	})
}
