package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"windlass/protocol"
)

func TestEndpointDocument(t *testing.T) {
	docs, err := decodeStrict("e.yaml", []byte(`kind: Endpoint
id: ep_a
runtime: {kind: command, command: [python3, -u, h.py], env: {LOG: info, N: 3, S: {fromFile: /run/key}}}
resources: {gpus: 1, vram: 20GB}
policy: {executionTimeout: 600s}
input: {schema: {type: object, required: [prompt]}}
---
id: ep_b
runtime: {kind: builtin, handler: echo}
`), protocol.Endpoint{})
	if err != nil || len(docs) != 2 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	e := docs[0]
	if e.Resources.VRAM != 20<<30 || e.Policy.ExecutionTimeout.Std() != 10*time.Minute {
		t.Errorf("%+v", e)
	}
	env := map[string]protocol.EnvValue{"LOG": {Literal: "info"}, "N": {Literal: "3"}, "S": {FromFile: "/run/key"}}
	if diff := cmp.Diff(env, e.Runtime.Env); diff != "" {
		t.Errorf("env: %s", diff)
	}
	if string(e.Input.Schema) == "" {
		t.Error("schema lost")
	}
}

func TestMistakesAreExplained(t *testing.T) {
	for name, tc := range map[string]struct {
		text  string
		parts []string
	}{
		"unknown key":        {"id: x\nconcurency: 2\n", []string{"[2:1]", `did you mean "concurrency"?`, "> ", "concurency: 2"}},
		"unknown nested key": {"id: x\nruntime:\n  kind: a\n  comand: [b]\n", []string{"[4:3]", `did you mean "command"?`}},
		"nothing near":       {"id: x\nfrobnicate: 1\n", []string{"[2:1]", `unknown field "frobnicate"`}},
		"wrong type":         {"id: x\nconcurrency: two\n", []string{"[2:14]"}},
		"bad duration":       {"id: x\npolicy:\n  ttl: 24x\n", []string{"[3:8]", "such as 600s or 24h"}},
		"key twice":          {"id: x\nid: y\n", []string{"[2:1]", "already defined"}},
		"no yaml":            {"id: [x\n", []string{"[1:"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeStrict("e.yaml", []byte(tc.text), protocol.Endpoint{})
			if err == nil || exitCode(err) != exitUsage {
				t.Fatalf("error %v", err)
			}
			contains(t, "error", err.Error(), append(tc.parts, "e.yaml")...)
		})
	}
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add("kind: Endpoint\nid: ep_a\nruntime: {kind: command, env: {A: {fromFile: x}}}\n")
	f.Add("id: x\nruntime:\n  comand: [b]\n---\n- 1\n")
	f.Add("a: &a [*a]\n? {b: c}\n: d")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := decodeStrict("f", []byte(text), protocol.Endpoint{}); err != nil && describe(err) == "" {
			t.Fatal("an error without words")
		}
	})
}

type sampleConfig struct {
	Name string `json:"name"`
	HTTP struct {
		Listen    string `json:"listen"`
		PublicURL string `json:"publicUrl"`
	} `json:"http"`
	Join   []string          `json:"join"`
	Labels map[string]string `json:"labels"`
	Slots  int               `json:"slots"`
	Keep   protocol.Duration `json:"keep"`
	Off    bool              `json:"off"`
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	file := t.TempDir() + "/c.yaml"
	writeFile(t, file, "name: file\nhttp: {listen: file, publicUrl: file}\noff: false\njoin: [a]\n")
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s := newSettings(flags, reflect.TypeFor[sampleConfig]())
	if err := flags.Parse([]string{"--name", "flag", "--labels", "a=b,c=d"}); err != nil {
		t.Fatal(err)
	}
	a := &app{environ: []string{"WINDLASS_NAME=env", "WINDLASS_HTTP_PUBLIC_URL=env", "WINDLASS_JOIN=x, y", "WINDLASS_KEEP=5m", "WINDLASS_SLOTS=4"}}
	got, err := load(a, s, file, sampleConfig{Off: true})
	if err != nil {
		t.Fatal(err)
	}
	want := sampleConfig{Name: "flag", Join: []string{"x", "y"}, Labels: map[string]string{"a": "b", "c": "d"}, Slots: 4, Keep: protocol.Duration(5 * time.Minute)}
	want.HTTP.Listen, want.HTTP.PublicURL = "file", "env"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestABadVariableIsNamed(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s := newSettings(flags, reflect.TypeFor[sampleConfig]())
	_, err := load(&app{environ: []string{"WINDLASS_SLOTS=many"}}, s, "", sampleConfig{})
	if err == nil || exitCode(err) != exitUsage {
		t.Fatalf("error %v", err)
	}
	contains(t, "error", err.Error(), "WINDLASS_SLOTS", "many")
}
