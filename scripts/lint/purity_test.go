package lint

import (
	"go/ast"
	"go/types"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

func pureDirs() []string {
	return []string{"coordinator/command", "coordinator/state", "coordinator/fsm", "coordinator/queue"}
}

// TestPurity holds DESIGN 1 and architecture.md 2.8: the replicated core reads
// no clock and no randomness, does no I/O and starts no goroutine.
func TestPurity(t *testing.T) {
	forbidden := []string{"math/rand", "math/rand/v2", "crypto/rand", "os", "net", "net/http", "syscall"}
	clocks := map[string]bool{"Now": true, "Since": true, "Until": true, "After": true, "Tick": true, "NewTimer": true, "NewTicker": true, "AfterFunc": true, "Sleep": true}
	for _, s := range sources(t) {
		if s.test || s.generated || !inOneOf(s.dir(), pureDirs()) {
			continue
		}
		for _, imp := range s.imports() {
			if contains(forbidden, imp) {
				t.Errorf("%s imports %s: the replicated core is pure", s.path, imp)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine: the replicated core is single-threaded", s.at(n.Pos()))
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "time" && clocks[n.Sel.Name] {
					t.Errorf("%s reads the clock (time.%s): time comes with the batch", s.at(n.Pos()), n.Sel.Name)
				}
			case *ast.Ident:
				if n.Name == "float64" || n.Name == "float32" {
					t.Errorf("%s uses a float: replicas could round differently", s.at(n.Pos()))
				}
			}
			return true
		})
	}
}

// TestNoMapOrder refuses ranging over a map in the replicated core: its order
// differs between replicas. A comment "order does not matter: why" on the line
// above admits a loop whose result does not depend on it.
func TestNoMapOrder(t *testing.T) {
	var patterns []string
	for _, d := range pureDirs() {
		patterns = append(patterns, "./"+d)
	}
	cfg := &packages.Config{Dir: root(t), Mode: packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedDeps, BuildFlags: []string{"-tags=hashicorpmetrics"}}
	pkgs, err := packages.Load(cfg, patterns...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pkgs {
		for _, e := range p.Errors {
			t.Fatalf("cannot load %s: %v", p.PkgPath, e)
		}
		for _, f := range p.Syntax {
			if ast.IsGenerated(f) {
				continue
			}
			checkRanges(t, p, f)
		}
	}
}

func checkRanges(t *testing.T, p *packages.Package, f *ast.File) {
	admitted := make(map[int]bool)
	for _, group := range f.Comments {
		if strings.Contains(group.Text(), "order does not matter:") {
			admitted[p.Fset.Position(group.End()).Line] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		r, ok := n.(*ast.RangeStmt)
		if !ok {
			return true
		}
		if _, isMap := p.TypesInfo.TypeOf(r.X).Underlying().(*types.Map); !isMap {
			return true
		}
		at := p.Fset.Position(r.Pos())
		if !admitted[at.Line-1] {
			t.Errorf("%s:%d ranges over a map: sort its keys, or say above why order does not matter", at.Filename, at.Line)
		}
		return true
	})
}
