package lint

import (
	"bytes"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"testing"
)

// TestExportedAreDocumented wants a doc comment on every exported name.
func TestExportedAreDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.generated || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s has no doc comment", s.at(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(t, s, d)
			}
		}
	}
}

func undocumented(t *testing.T, s source, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil {
				t.Errorf("%s: %s has no doc comment", s.at(spec.Pos()), spec.Name.Name)
			}
		case *ast.ValueSpec:
			for _, name := range spec.Names {
				if name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					t.Errorf("%s: %s has no doc comment", s.at(spec.Pos()), name.Name)
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	e := d.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if index, ok := e.(*ast.IndexExpr); ok {
		e = index.X
	}
	id, ok := e.(*ast.Ident)
	return !ok || id.IsExported()
}

// TestPackagesSayWhy wants a DESIGN.md beside every package of some size.
func TestPackagesSayWhy(t *testing.T) {
	lines := make(map[string]int)
	for _, s := range sources(t) {
		if !s.test && !s.generated {
			lines[s.dir()] += bytes.Count(s.text, []byte{'\n'})
		}
	}
	for dir, n := range lines {
		if n < designFrom || dir == "protocol" { // protocol's reasons are docs/protocol.md
			continue
		}
		if _, err := os.Stat(filepath.Join(root(t), dir, "DESIGN.md")); err != nil {
			t.Errorf("%s has %d lines and no DESIGN.md", dir, n)
		}
	}
}

// TestNoGlobals refuses init functions and package variables that can change.
func TestNoGlobals(t *testing.T) {
	for _, s := range sources(t) {
		if s.generated || s.test {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: init runs where nobody called it", s.at(d.Pos()))
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					globals(t, s, d)
				}
			}
		}
	}
}

func globals(t *testing.T, s source, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok {
			continue
		}
		embedded := embeds(d.Doc) || embeds(v.Doc)
		for _, name := range v.Names {
			n := name.Name
			sentinel := len(n) > 3 && (n[:3] == "Err" || n[:3] == "err")
			stamped := n == "version" && s.file.Name.Name == "main" // set by the linker
			if n != "_" && !sentinel && !embedded && !stamped {
				t.Errorf("%s: package variable %s: pass it, or make it a constant or a function", s.at(name.Pos()), n)
			}
		}
	}
}

func embeds(c *ast.CommentGroup) bool {
	if c == nil {
		return false
	}
	for _, line := range c.List {
		if bytes.HasPrefix([]byte(line.Text), []byte("//go:embed")) {
			return true
		}
	}
	return false
}
