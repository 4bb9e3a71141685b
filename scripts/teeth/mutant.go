package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mutant is one bug.
type mutant struct {
	name  string // of its file
	about string // what is wrong with it, for people
	pkg   string // of the test: "./coordinator/fsm"
	tests string // of the test: its name, with a slash before that of a subtest
	edits []edit

	base    *baseline // the same test without the bug
	hung    bool      // the test was ended after its limit
	failure string    // why it does not count as caught; "" when it does
	took    time.Duration
}

// edit replaces one piece of a file, which must be there exactly once.
type edit struct{ file, before, after string }

// load reads the mutants of a folder, in the order of their names. A file is
//
//	what is wrong
//	test: ./package TestName
//	file: path/of/source.go
//	--- before
//	text
//	--- after
//	text
//
// with as many files, befores and afters as the bug needs.
func load(dir string) ([]*mutant, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read mutants: %w", err)
	}
	var out []*mutant
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("cannot read mutant: %w", err)
		}
		m, err := parse(strings.TrimSuffix(e.Name(), ".txt"), string(text))
		if err != nil {
			return nil, fmt.Errorf("cannot read mutant %s: %w", e.Name(), err)
		}
		out = append(out, m)
	}
	return out, nil
}

func parse(name, text string) (*mutant, error) {
	m := &mutant{name: name}
	var e edit
	var part *string
	file := ""
	add := func() {
		if part == &e.after {
			m.edits = append(m.edits, e)
		}
		e, part = edit{file: file}, nil
	}
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case word == "test:":
			m.pkg, m.tests, _ = strings.Cut(rest, " ")
		case word == "file:":
			add()
			file = rest
			e.file = file
		case word == "---" && rest == "before":
			add()
			part = &e.before
		case word == "---" && rest == "after":
			part = &e.after
		case part != nil:
			*part += line
		case m.pkg == "":
			m.about += line
		}
	}
	add()
	if m.about == "" || m.pkg == "" || m.tests == "" || len(m.edits) == 0 {
		return nil, fmt.Errorf("it lacks what is wrong, its test, or its edits")
	}
	for _, e := range m.edits {
		if e.file == "" || e.before == "" || e.before == e.after {
			return nil, fmt.Errorf("an edit lacks its file or its text, or changes nothing")
		}
	}
	return m, nil
}

// test is what must find the bug.
func (m *mutant) test() string { return m.pkg + " " + m.tests }

// pattern matches exactly one test, or subtest, for -run.
func pattern(test string) string {
	return "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
}

// apply writes the mutated files to dir and returns the overlay that puts them
// in the place of the originals.
func (m *mutant) apply(dir string) (overlay string, err error) {
	texts := make(map[string]string)
	for _, e := range m.edits {
		text, ok := texts[e.file]
		if !ok {
			b, err := os.ReadFile(e.file)
			if err != nil {
				return "", fmt.Errorf("cannot read source: %w", err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.before); n != 1 {
			return "", fmt.Errorf("the text is %d times in %s, and must be there once: bring the mutant up to date\n%s", n, e.file, e.before)
		}
		texts[e.file] = strings.Replace(text, e.before, e.after, 1)
	}
	dir = filepath.Join(dir, m.name)
	replace := make(map[string]string)
	for file, text := range texts {
		abs, err := filepath.Abs(file)
		if err != nil {
			return "", fmt.Errorf("cannot name source: %w", err)
		}
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return "", fmt.Errorf("cannot write mutant: %w", err)
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("cannot write mutant: %w", err)
		}
		replace[abs] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("cannot write overlay: %w", err)
	}
	overlay = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return "", fmt.Errorf("cannot write overlay: %w", err)
	}
	return overlay, nil
}

func timedOut(out string) bool { return strings.Contains(out, "panic: test timed out") }

// judge runs the test with the bug.
func (m *mutant) judge(ctx context.Context, dir string) {
	begin := time.Now()
	defer func() { m.took = time.Since(begin) }()
	overlay, err := m.apply(dir)
	switch {
	case err != nil:
		m.failure = err.Error()
		return
	case m.base.failure != "":
		m.failure = "the test fails without the bug too: " + m.base.failure
		return
	case !m.base.ran(m.tests):
		m.failure = "no test of " + m.pkg + " matches " + m.tests
		return
	}
	out, failed := goTest(ctx, m.pkg, []string{m.tests}, m.base.limit, "-failfast", "-overlay", overlay)
	if m.hung = timedOut(out); m.hung {
		out, failed = goTest(ctx, m.pkg, []string{m.tests}, doubtFactor*m.base.limit, "-failfast", "-overlay", overlay)
		m.hung = timedOut(out)
	}
	switch {
	case !failed:
		m.failure = "the test passes with the bug"
	case !strings.Contains(out, "--- FAIL") && !strings.Contains(out, "panic:") && !strings.Contains(out, "fatal error:"):
		m.failure = "the mutant does not build: " + out
	}
}
