package conformance

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// lastItem is the number of the last item of the list.
const lastItem = 286

// TestCompatibilityPage holds docs/compatibility.md to the tests: every item is
// there once, and what is said to show it exists.
func TestCompatibilityPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	walked, tests := names(t)
	row := regexp.MustCompile(`(?m)^\| (\d+) \| .* \| (works|differs) \| (.+) \|$`)
	seen := make(map[int]bool)
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		n, _ := strconv.Atoi(m[1])
		if seen[n] {
			t.Errorf("item %d is there twice", n)
		}
		seen[n] = true
		if m[2] == "works" {
			checkProof(t, n, m[3], walked, tests)
		}
	}
	for n := 1; n <= lastItem; n++ {
		if !seen[n] {
			t.Errorf("item %d is missing", n)
		}
	}
}

// checkProof fails unless text names tests, and all of them exist.
func checkProof(t *testing.T, n int, text string, walked, tests map[string]bool) {
	t.Helper()
	found := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(text, -1)
	for _, name := range found {
		if !tests[name] {
			t.Errorf("item %d: there is no %s", n, name)
		}
	}
	_, numbers, ok := strings.Cut(text, "conformance ")
	if !ok && len(found) == 0 {
		t.Errorf("item %d: nothing shows it", n)
	}
	for part := range strings.SplitSeq(numbers, ",") {
		part = strings.TrimSpace(part)
		if regexp.MustCompile(`^\d{3}[\d -]*$`).MatchString(part) && !walked[part] {
			t.Errorf("item %d: there is no conformance %q", n, part)
		}
	}
}

// names returns the numbers of the walked items and the names of all Go tests.
func names(t *testing.T) (walked, tests map[string]bool) {
	t.Helper()
	walked, tests = make(map[string]bool), make(map[string]bool)
	item := regexp.MustCompile(`\{"(\d{3}[\d -]*) [a-zA-Z]|\{"(\d{3}[\d -]*\d)[^\d -]`)
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		if filepath.Base(filepath.Dir(path)) == "conformance" {
			for _, m := range item.FindAllStringSubmatch(string(text), -1) {
				walked[strings.TrimSpace(m[1]+m[2])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return walked, tests
}
