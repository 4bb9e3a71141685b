package main

import (
	"encoding"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	yaml "github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// settings fills one configuration struct from a file, the environment and
// flags; the later wins. The names come from the struct alone, so that a field
// has the same path everywhere: http.listen in the file is
// WINDLASS_HTTP_LISTEN in the environment and --http-listen as a flag.
type settings struct {
	flags  *pflag.FlagSet
	values map[string]*string // by flag name, set by flags
}

// newSettings declares a flag for every field of the struct type.
func newSettings(flags *pflag.FlagSet, typ reflect.Type) *settings {
	s := &settings{flags: flags, values: make(map[string]*string)}
	var zero = reflect.New(typ).Elem()
	eachLeaf(zero, nil, func(path []string, _ reflect.Value) error {
		name := flagName(path)
		s.values[name] = flags.String(name, "", strings.Join(path, ".")+" of the file")
		return nil
	})
	return s
}

// load reads file (if one is named) and lays environment and flags over it.
func load[T any](a *app, s *settings, file string, defaults T, opts ...yaml.DecodeOption) (T, error) {
	cfg := defaults
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return cfg, usagef("cannot read configuration: %v", err)
		}
		if err := decodeOver(file, text, &cfg, opts); err != nil {
			return cfg, err
		}
	}
	err := eachLeaf(reflect.ValueOf(&cfg).Elem(), nil, func(path []string, v reflect.Value) error {
		if name := envName(path); a.env(name) != "" {
			if err := setLeaf(v, a.env(name)); err != nil {
				return usagef("%s: %v", name, err)
			}
		}
		if name := flagName(path); s.flags.Changed(name) {
			if err := setLeaf(v, *s.values[name]); err != nil {
				return usagef("--%s: %v", name, err)
			}
		}
		return nil
	})
	return cfg, err
}

// decodeOver lays one document over the values that are there.
func decodeOver[T any](file string, text []byte, into *T, opts []yaml.DecodeOption) error {
	docs, err := decodeStrict(file, text, *into, opts...)
	if err != nil || len(docs) == 0 {
		return err
	}
	if len(docs) > 1 {
		return usagef("cannot read %s: %d documents, want one", file, len(docs))
	}
	*into = docs[0]
	return nil
}

func isText(v reflect.Value) bool {
	_, ok := reflect.New(v.Type()).Interface().(encoding.TextUnmarshaler)
	return ok
}

// eachLeaf walks the fields that one text can set; lists of structs have no
// flag and no variable.
func eachLeaf(v reflect.Value, path []string, see func([]string, reflect.Value) error) error {
	if v.Kind() == reflect.Struct && !isText(v) {
		for f := range fields(v.Type()) {
			child := append(path[:len(path):len(path)], keyOf(f))
			if err := eachLeaf(v.FieldByIndex(f.Index), child, see); err != nil {
				return err
			}
		}
		return nil
	}
	if !settable(v) {
		return nil
	}
	return see(path, v)
}

func settable(v reflect.Value) bool {
	if isText(v) {
		return true
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		return true
	case reflect.Slice:
		return v.Type().Elem().Kind() == reflect.String || v.Type().Elem().Kind() == reflect.Uint16
	case reflect.Map:
		return v.Type().Elem().Kind() == reflect.String && v.Type().Key().Kind() == reflect.String
	default:
		return false
	}
}

func setLeaf(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Slice:
		return setList(v, text)
	case reflect.Map:
		return setPairs(v, text)
	default:
		return setNumber(v, text)
	}
	return nil
}

func setNumber(v reflect.Value, text string) error {
	var err error
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		var d time.Duration
		d, err = time.ParseDuration(text)
		v.SetInt(int64(d))
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
	default:
		var n float64
		n, err = strconv.ParseFloat(text, 64)
		v.SetFloat(n)
	}
	if err != nil {
		return fmt.Errorf("cannot use %q as %s", text, v.Type())
	}
	return nil
}

func setList(v reflect.Value, text string) error {
	list := reflect.MakeSlice(v.Type(), 0, 0)
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			one := reflect.New(v.Type().Elem()).Elem()
			if err := setLeaf(one, part); err != nil {
				return err
			}
			list = reflect.Append(list, one)
		}
	}
	v.Set(list)
	return nil
}

func setPairs(v reflect.Value, text string) error {
	m := reflect.MakeMap(v.Type())
	for part := range strings.SplitSeq(text, ",") {
		k, val, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || k == "" {
			return fmt.Errorf("cannot use %q: want key=value,key=value", text)
		}
		m.SetMapIndex(reflect.ValueOf(k).Convert(v.Type().Key()), reflect.ValueOf(val).Convert(v.Type().Elem()))
	}
	v.Set(m)
	return nil
}

func flagName(path []string) string { return words(path, '-', unicode.ToLower) }

func envName(path []string) string { return "WINDLASS_" + words(path, '_', unicode.ToUpper) }

// words joins a path and splits its camel case: [http publicUrl] is http-public-url.
func words(path []string, sep rune, letter func(rune) rune) string {
	var b strings.Builder
	for i, part := range path {
		if i > 0 {
			b.WriteRune(sep)
		}
		for j, r := range part {
			if j > 0 && unicode.IsUpper(r) {
				b.WriteRune(sep)
			}
			b.WriteRune(letter(r))
		}
	}
	return b.String()
}
