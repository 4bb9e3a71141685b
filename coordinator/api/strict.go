package api

import (
	"encoding"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// decodeStrict reads a JSON object into the struct that out points to. Keys
// that the struct lacks are findings which name the nearest known key; so are
// values of a wrong type. It goes on after each, so that all are found.
func decodeStrict(raw []byte, out any, bad *findings) {
	decodeObject(raw, reflect.ValueOf(out).Elem(), "", bad)
}

func decodeObject(raw []byte, out reflect.Value, path string, bad *findings) {
	if len(raw) == 0 || raw[0] != '{' {
		bad.add(orBody(path), raw, "Must be an object")
		return
	}
	fields := jsonFields(out.Type())
	seen := make(map[string]bool)
	_ = scanObject(raw, func(key string, value []byte) {
		at := join(path, key)
		index, known := fields[key]
		switch {
		case seen[key]:
			bad.add(at, nil, "Must not be given twice")
		case !known:
			bad.add(at, nil, "Unknown key; "+nearest(key, fields))
		case string(value) == "null":
		default:
			decodeValue(value, out.Field(index), at, bad)
		}
		seen[key] = true
	})
}

func decodeValue(raw []byte, out reflect.Value, path string, bad *findings) {
	if out.Kind() == reflect.Struct && !decodesItself(out) {
		decodeObject(raw, out, path, bad)
		return
	}
	if out.Kind() == reflect.Map && raw[0] == '{' {
		decodeMap(raw, out, path, bad)
		return
	}
	if err := json.Unmarshal(raw, out.Addr().Interface()); err != nil {
		bad.add(path, raw, reason(err, out.Type()))
	}
}

func decodeMap(raw []byte, out reflect.Value, path string, bad *findings) {
	m := reflect.MakeMap(out.Type())
	_ = scanObject(raw, func(key string, value []byte) {
		v := reflect.New(out.Type().Elem()).Elem()
		decodeValue(value, v, join(path, key), bad)
		m.SetMapIndex(reflect.ValueOf(key), v)
	})
	out.Set(m)
}

func decodesItself(v reflect.Value) bool {
	p := v.Addr().Interface()
	_, isJSON := p.(json.Unmarshaler)
	_, isText := p.(encoding.TextUnmarshaler)
	return isJSON || isText
}

// jsonFields maps the JSON names of a struct to field numbers.
func jsonFields(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

// reason says what a value must be.
func reason(err error, t reflect.Type) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	switch t.Kind() {
	case reflect.String:
		return "Must be a string"
	case reflect.Bool:
		return "Must be true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return "Must be text with a unit, such as 600s or 20GB"
		}
		return "Must be an integer"
	case reflect.Float64:
		return "Must be a number"
	case reflect.Slice:
		return "Must be a list of strings"
	case reflect.Map:
		return "Must be an object"
	}
	return "Has the wrong type"
}

func nearest(key string, fields map[string]int) string {
	names := slices.Sorted(maps.Keys(fields))
	best, distance := "", max(2, len(key)/2)+1
	for _, name := range names {
		if d := editDistance(strings.ToLower(key), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return "known are " + strings.Join(names, ", ")
	}
	return "did you mean " + best + "?"
}

// maxCompared bounds the words whose distance is computed.
const maxCompared = 64

// editDistance counts the letters to insert, remove or replace.
func editDistance(a, b string) int {
	if len(a) > maxCompared {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := previous
			if a[i] != b[j] {
				cost++
			}
			previous = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(path, key string) string {
	key, _ = shown(key).(string)
	if path == "" {
		return key
	}
	return path + "." + key
}

func orBody(path string) string {
	if path == "" {
		return "body"
	}
	return path
}
