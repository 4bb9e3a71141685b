package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/jedib0t/go-pretty/v6/table"
)

// The output formats. The fields of json, jsonl and yaml are the API's.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatJSONL = "jsonl"
	formatYAML  = "yaml"
	formatName  = "name"
)

func formats() []string {
	return []string{formatTable, formatJSON, formatJSONL, formatYAML, formatName}
}

func (a *app) chooseFormat() error {
	from := "--output"
	if a.format == "" {
		from, a.format = "WINDLASS_OUTPUT", a.env("WINDLASS_OUTPUT")
	}
	if a.format == "" {
		a.format = formatTable
	}
	if !slices.Contains(formats(), a.format) {
		return usagef("%s: unknown format %q: use %s", from, a.format, strings.Join(formats(), ", "))
	}
	return nil
}

// view is one result in every form that it can be shown in.
type view struct {
	doc   any      // json and yaml
	rows  []any    // jsonl; nil: doc is the one row
	names []string // name
	table func(io.Writer)
}

func (a *app) print(v view) error {
	var b bytes.Buffer
	var err error
	switch a.format {
	case formatJSON:
		err = writeJSON(&b, v.doc)
	case formatYAML:
		err = writeYAML(&b, v.doc)
	case formatJSONL:
		if v.rows == nil {
			v.rows = []any{v.doc}
		}
		for _, row := range v.rows {
			err = writeLine(&b, row)
			if err != nil {
				break
			}
		}
	case formatName:
		for _, n := range v.names {
			b.WriteString(n + "\n")
		}
	default:
		v.table(&b)
	}
	if err != nil {
		return fmt.Errorf("cannot write output: %w", err)
	}
	// One write after everything is known: on failure stdout stays empty.
	_, err = a.out.Write(b.Bytes())
	return err
}

func writeJSON(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func writeLine(w io.Writer, row any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(row)
}

func writeYAML(w io.Writer, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	// Through JSON, so that the names and the text forms are the API's.
	b, err = yaml.JSONToYAML(b)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// writeTable writes rows under a header, without borders: it is read by people
// and cut by awk.
func writeTable(w io.Writer, header table.Row, rows []table.Row) {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	if header != nil {
		t.AppendHeader(header)
	}
	t.AppendRows(rows)
	for line := range strings.SplitSeq(t.Render(), "\n") {
		_, _ = io.WriteString(w, strings.TrimRight(line, " ")+"\n")
	}
}
