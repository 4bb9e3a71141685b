package main

import (
	"os"
	"path/filepath"
	"testing"
)

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestApplyAFolder(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "b.yaml"), "id: ep_b\nruntime: {kind: builtin}\n---\nid: ep_c\nruntime: {kind: builtin}\n")
	writeFile(t, filepath.Join(dir, "a.yml"), "kind: Endpoint\nid: ep_a\nruntime: {kind: builtin}\nresources: {gpus: 2, vram: 1GB}\n")
	writeFile(t, filepath.Join(dir, "notes.txt"), "not yaml: [")
	f := &fakeAPI{}
	r := cli(t, f, cliOptions{}, "endpoint", "apply", "-f", dir, "-o", "name")
	if r.code != 0 || r.stdout != "ep_a\nep_b\nep_c\n" || f.applied[0].Resources.GPUs != 2 {
		t.Fatalf("%+v %+v", r, f.applied)
	}
}

func TestApplyChecksAllBeforeItSends(t *testing.T) {
	for name, text := range map[string]string{
		"second is wrong": "id: ep_a\nruntime: {kind: builtin}\n---\nid: ep_b\nruntimes: {}\n",
		"wrong kind":      "kind: Job\nid: ep_a\n",
		"no id":           "runtime: {kind: builtin}\n",
		"empty":           "",
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAPI{}
			r := cli(t, f, cliOptions{stdin: text}, "endpoint", "apply", "-f", "-")
			if r.code != exitUsage || r.stdout != "" || len(f.applied) != 0 {
				t.Fatalf("%+v, applied %d", r, len(f.applied))
			}
		})
	}
}
