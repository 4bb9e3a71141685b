package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"windlass/protocol"
)

// readInput makes the job's input from a file, stdin, or key=value pairs; no
// pairs and no file are the empty object.
func (a *app) readInput(file string, pairs []string) (json.RawMessage, error) {
	if file == "" {
		return pairInput(pairs)
	}
	if len(pairs) > 0 {
		return nil, usagef("give the input as key=value or with -i, not both")
	}
	name, text, err := a.readFile(file, protocol.MaxBody)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(text); err != nil {
		return nil, usagef("cannot use input %s: %v", name, err)
	}
	return text, nil
}

// readFile reads a whole file, or stdin for "-", up to a limit.
func (a *app) readFile(file string, limit int64) (name string, text []byte, err error) {
	r := a.in
	name = "stdin"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return file, nil, usagef("cannot open input: %v", err)
		}
		defer f.Close()
		r, name = f, file
	}
	text, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return name, nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if int64(len(text)) > limit {
		return name, nil, usagef("cannot use %s: longer than %s", name, protocol.FormatBytes(limit))
	}
	return name, text, nil
}

func checkJSON(text []byte) error {
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	if syntax, ok := err.(*json.SyntaxError); ok {
		before := text[:min(int(syntax.Offset), len(text))]
		return fmt.Errorf("line %d: %w", 1+strings.Count(string(before), "\n"), err)
	}
	return err
}

// pairInput reads key=value pairs: a value that is JSON is taken as such, any
// other is text. The order of the pairs is kept, the last of equal keys counts.
func pairInput(pairs []string) (json.RawMessage, error) {
	object := make(map[string]json.RawMessage, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("%q is no input: want key=value, or a file with -i", p)
		}
		object[k] = pairValue(v)
	}
	return protocol.EncodeJSON(object)
}

func pairValue(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	b, _ := protocol.EncodeJSON(text) // text always encodes
	return b
}
