//go:build clients

package sdk

import (
	"os"
	"strings"
	"testing"
)

// seed returns the text of a seed document.
func seed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/seeds/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// between returns the lines after the line that reads from, up to the line that
// reads to.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+from+"\n")
	code, _, ok2 := strings.Cut(rest, "\n"+to)
	if !ok || !ok2 {
		t.Fatalf("the seed has no part from %q to %q", from, to)
	}
	return code + "\n"
}

// fromLine drops the prose before the first line that begins with start.
func fromLine(t *testing.T, text, start string) string {
	t.Helper()
	i := strings.Index("\n"+text, "\n"+start)
	if i < 0 {
		t.Fatalf("no line begins with %q in:\n%s", start, text)
	}
	return text[i:]
}

// indented gives Python lines back the indentation that the page has lost: the
// number of levels for each line, as digits.
func indented(t *testing.T, code, levels string) string {
	t.Helper()
	lines := strings.Split(strings.TrimRight(code, "\n"), "\n")
	if len(lines) != len(levels) {
		t.Fatalf("%d lines and %d levels:\n%s", len(lines), len(levels), code)
	}
	for i, line := range lines {
		lines[i] = strings.Repeat("    ", int(levels[i]-'0')) + line
	}
	return strings.Join(lines, "\n") + "\n"
}

// replaced replaces every old, and fails where there is none: the test would no
// longer run what it says.
func replaced(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in:\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, new)
}
