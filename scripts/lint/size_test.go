package lint

import (
	"bytes"
	"go/ast"
	"slices"
	"testing"
)

// The sizes of architecture.md 1.0, which every model that we learn from misses somewhere.
const (
	maxFile    = 800
	p90File    = 400
	maxFunc    = 100
	p90Func    = 40
	designFrom = 500 // lines of a package from which its reasons are written down
)

// TestFileSizes counts lines of files that people write.
func TestFileSizes(t *testing.T) {
	var sizes []int
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		n := bytes.Count(s.text, []byte{'\n'})
		sizes = append(sizes, n)
		if n > maxFile {
			t.Errorf("%s has %d lines, more than %d: a file is one noun or one loop", s.path, n, maxFile)
		}
	}
	if p := p90(sizes); p > p90File {
		t.Errorf("nine of ten files have up to %d lines, more than %d", p, p90File)
	}
}

// TestFunctionSizes counts lines of functions; a test may be longer, not endless.
func TestFunctionSizes(t *testing.T) {
	var sizes []int
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			n := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
			if !s.test {
				sizes = append(sizes, n)
			}
			if n > maxFunc {
				t.Errorf("%s: %s has %d lines, more than %d", s.at(fn.Pos()), fn.Name.Name, n, maxFunc)
			}
		}
	}
	if p := p90(sizes); p > p90Func {
		t.Errorf("nine of ten functions have up to %d lines, more than %d", p, p90Func)
	}
}

func p90(sizes []int) int {
	slices.Sort(sizes)
	return sizes[len(sizes)*9/10]
}
