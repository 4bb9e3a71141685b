package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutantsCanBeRead: whether each applies and is caught is what `make teeth`
// shows.
func TestMutantsCanBeRead(t *testing.T) {
	mutants, err := load("mutants")
	if err != nil {
		t.Fatal(err)
	}
	if len(mutants) < 25 {
		t.Errorf("%d mutants are too few", len(mutants))
	}
}

const sample = `Something is wrong.
test: ./somewhere TestIt/well
file: a.go
--- before
one
--- after
two
--- before
three
--- after
file: b.go
--- before
x
--- after
y
`

func TestParse(t *testing.T) {
	m, err := parse("name", sample)
	if err != nil {
		t.Fatal(err)
	}
	want := []edit{{"a.go", "one\n", "two\n"}, {"a.go", "three\n", ""}, {"b.go", "x\n", "y\n"}}
	if len(m.edits) != len(want) {
		t.Fatalf("%+v", m.edits)
	}
	for i, e := range want {
		if m.edits[i] != e {
			t.Errorf("edit %d is %+v, want %+v", i, m.edits[i], e)
		}
	}
	if m.about != "Something is wrong.\n" || m.pkg != "./somewhere" || pattern(m.tests) != "^TestIt$/^well$" {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{"", "about\n", strings.Replace(sample, "file: a.go", "", 1), strings.Replace(sample, "two", "one", 1), strings.Replace(sample, "test:", "tests:", 1)} {
		if _, err := parse("bad", bad); err == nil {
			t.Errorf("taken: %s", bad)
		}
	}
}

// TestTextThatMovedFails: a mutant that does not apply any more is never skipped.
func TestTextThatMovedFails(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for text, ok := range map[string]bool{"one\nthree\n": true, "three\n": false, "one\none\nthree\n": false} {
		if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &mutant{name: "m", edits: []edit{{"a.go", "one\n", "two\n"}}}
		if _, err := m.apply(dir); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
