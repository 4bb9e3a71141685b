package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailureModelNamesWhatExists: every test and every fault that the page
// names exists, and every fault that exists is named.
func TestFailureModelNamesWhatExists(t *testing.T) {
	raw, err := os.ReadFile("../../docs/failure-model.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	exist := testNames(t)
	for _, name := range regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w+`).FindAllString(page, -1) {
		if !exist[name] {
			t.Errorf("the page names %s, which does not exist", name)
		}
	}
	faults := map[string]bool{"agent-stop": true} // beside all episodes of a cluster
	for _, s := range scenarios() {
		faults[s.name] = s.name != "cluster" && s.name != "five" // hosts of episodes
		for _, e := range episodes(s.coordinators) {
			faults[e.name] = true
		}
	}
	for _, m := range regexp.MustCompile("`([a-z]+(-[a-z]+)+)`").FindAllStringSubmatch(page, -1) {
		if !faults[m[1]] {
			t.Errorf("the page names the fault %s, which is not injected", m[1])
		}
	}
	for name, named := range faults {
		if named && !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page does not name the fault %s", name)
		}
	}
}

func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := make(map[string]bool)
	pattern := regexp.MustCompile(`(?m)^func ((Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range pattern.FindAllSubmatch(text, -1) {
			out[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
