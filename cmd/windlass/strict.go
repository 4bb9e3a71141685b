package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decodeStrict reads YAML documents of type T. An unknown key, a wrong type or a
// key given twice is an error with the line, the source around it, and the
// nearest name that exists. Each document is laid over the defaults.
func decodeStrict[T any](file string, text []byte, defaults T, opts ...yaml.DecodeOption) ([]T, error) {
	opts = append(opts, yaml.Strict(), yaml.UseJSONUnmarshaler())
	dec := yaml.NewDecoder(bytes.NewReader(text), opts...)
	var docs []T
	for {
		doc := defaults
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, usagef("cannot read %s: %s", file, explainYAML(text, reflect.TypeFor[T](), err))
		}
		docs = append(docs, doc)
	}
}

func explainYAML(text []byte, typ reflect.Type, err error) string {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		message := unknown.Message
		if near := nearest(unknown.Token.Value, keysBeside(text, typ, unknown.Token)); near != "" {
			message += fmt.Sprintf(", did you mean %q?", near)
		}
		return yaml.FormatErrorWithToken(message, unknown.Token, false, true)
	}
	var placed yaml.Error
	if errors.As(err, &placed) {
		return yaml.FormatError(err, false, true)
	}
	// A value that its type refused, such as a duration: the error quotes it.
	if tk := quotedToken(text, err.Error()); tk != nil {
		return yaml.FormatErrorWithToken(err.Error(), tk, false, true)
	}
	return err.Error()
}

// keysBeside lists the names that may stand where the unknown key stands.
func keysBeside(text []byte, typ reflect.Type, at *token.Token) []string {
	path := ""
	eachNode(text, func(n ast.Node) {
		if tk := n.GetToken(); tk != nil && tk.Position.Offset == at.Position.Offset && n.Type() == ast.StringType {
			path = n.GetPath()
		}
	})
	steps := strings.Split(strings.TrimPrefix(path, "$."), ".")
	for _, step := range steps[:max(0, len(steps)-1)] {
		if typ = fieldType(typ, step); typ == nil {
			return nil
		}
	}
	return fieldNames(typ)
}

func quotedToken(text []byte, message string) (found *token.Token) {
	eachNode(text, func(n ast.Node) {
		if tk := n.GetToken(); found == nil && tk != nil && tk.Value != "" && strings.Contains(message, fmt.Sprintf("%q", tk.Value)) {
			found = tk
		}
	})
	return found
}

type nodeVisitor func(ast.Node)

// Visit implements ast.Visitor.
func (v nodeVisitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

func eachNode(text []byte, see func(ast.Node)) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return
	}
	for _, doc := range file.Docs {
		if doc.Body != nil {
			ast.Walk(nodeVisitor(see), doc.Body)
		}
	}
}

func plainStruct(typ reflect.Type) reflect.Type {
	for typ != nil && (typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map) {
		typ = typ.Elem()
	}
	if typ == nil || typ.Kind() != reflect.Struct {
		return nil
	}
	return typ
}

func fieldType(typ reflect.Type, name string) reflect.Type {
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i]
	}
	typ = plainStruct(typ)
	if typ == nil {
		return nil
	}
	for f := range fields(typ) {
		if keyOf(f) == name {
			return f.Type
		}
	}
	return nil
}

func fieldNames(typ reflect.Type) []string {
	typ = plainStruct(typ)
	if typ == nil {
		return nil
	}
	var names []string
	for f := range fields(typ) {
		names = append(names, keyOf(f))
	}
	return names
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && keyOf(f) != "-" && !yield(f) {
				return
			}
		}
	}
}

// keyOf is the name that a field has in files, as the decoder derives it.
func keyOf(f reflect.StructField) string {
	tag := f.Tag.Get("yaml")
	if tag == "" {
		tag = f.Tag.Get("json")
	}
	if name, _, _ := strings.Cut(tag, ","); name != "" {
		return name
	}
	return strings.ToLower(f.Name)
}

// nearest is the candidate with the fewest edits, if it is near enough to be meant.
func nearest(word string, candidates []string) string {
	best, limit := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := edits(strings.ToLower(word), strings.ToLower(c)); d < limit {
			best, limit = c, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
