package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTestsNeitherSleepNorSkip: a sleep is a flake, a skipped test proves nothing.
// Virtual time passes by a function pass that panics outside of a bubble.
func TestTestsNeitherSleepNorSkip(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		var virtual ast.Node // the body of pass, which proves its bubble
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "pass" && f.Recv == nil && calls(f, "synctest", "Wait") {
				virtual = f
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "time" && sel.Sel.Name == "Sleep" && (virtual == nil || n.Pos() < virtual.Pos() || n.Pos() > virtual.End()) {
				t.Errorf("%s sleeps: let virtual time pass with a function pass that calls synctest.Wait after it", s.at(n.Pos()))
			}
			if (x.Name == "t" || x.Name == "b") && (sel.Sel.Name == "Skip" || sel.Sel.Name == "Skipf" || sel.Sel.Name == "SkipNow") {
				t.Errorf("%s skips", s.at(n.Pos()))
			}
			return true
		})
	}
}

// calls reports whether node calls pkg.name.
func calls(node ast.Node, pkg, name string) bool {
	found := false
	ast.Inspect(node, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			x, ok := sel.X.(*ast.Ident)
			found = found || ok && x.Name == pkg && sel.Sel.Name == name
		}
		return !found
	})
	return found
}

// TestTopLevel holds the tree of DESIGN 1.
func TestTopLevel(t *testing.T) {
	want := []string{"CHANGELOG.md", "LICENSE", "Makefile", "README.md", "agent", "cmd", "coordinator", "docs", "go.mod", "go.sum", "inference", "protocol", "scripts", "sdk"}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && name != "bin" && !slices.Contains(want, name) {
			t.Errorf("%s stands at the top level; only %v do", name, want)
		}
	}
	for _, dir := range []string{"internal", "pkg", "util", "utils", "common", "examples", "helpers"} {
		for _, s := range sources(t) {
			if slices.Contains(strings.Split(s.dir(), "/"), dir) {
				t.Errorf("%s lies in a %s folder: name what it does", s.path, dir)
			}
		}
	}
}

// TestDependenciesHaveReasons wants every direct module of go.mod on the page.
func TestDependenciesHaveReasons(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for line := range strings.SplitSeq(string(mod), "\n") {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) < 2 || !strings.Contains(fields[0], ".") || !strings.HasPrefix(fields[1], "v") || strings.Contains(line, "// indirect") {
			continue
		}
		direct++
		if !strings.Contains(string(page), "`"+fields[0]+"`") {
			t.Errorf("docs/dependencies.md gives no reason for %s", fields[0])
		}
	}
	if direct < 10 {
		t.Fatalf("found only %d direct modules: the rule would prove nothing", direct)
	}
}

// TestWaitedGoroutines wants every goroutine of product code inside a file that
// also waits: a WaitGroup, an errgroup, or a channel that is received.
func TestWaitedGoroutines(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.generated || within(s.path, "scripts") {
			continue
		}
		starts := false
		ast.Inspect(s.file, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				starts = true
			}
			return true
		})
		text := string(s.text)
		waits := strings.Contains(text, "<-") || strings.Contains(text, ".Wait()") || strings.Contains(text, "errgroup")
		if starts && !waits {
			t.Errorf("%s starts a goroutine and waits for none", s.path)
		}
	}
}
