package lint

import (
	"strings"
	"testing"
)

// TestImportDirection holds DESIGN 1: imports go one way.
func TestImportDirection(t *testing.T) {
	allowed := map[string][]string{
		"protocol":    {"protocol"},
		"inference":   {"inference", "protocol"},
		"agent":       {"agent", "inference", "protocol"},
		"coordinator": {"coordinator", "docs", "protocol"},
		"cmd":         {"cmd", "coordinator", "agent", "inference", "protocol"},
		"scripts":     {"scripts", "coordinator", "agent", "inference", "protocol"},
	}
	for _, s := range sources(t) {
		top, _, _ := strings.Cut(s.path, "/")
		for _, imp := range s.imports() {
			ours, ok := strings.CutPrefix(imp, module+"/")
			if !ok {
				continue
			}
			target, _, _ := strings.Cut(ours, "/")
			if !contains(allowed[top], target) {
				t.Errorf("%s imports %s: %s may import only %v", s.path, imp, top, allowed[top])
			}
		}
	}
}

// TestLayersInsideCoordinator holds architecture.md 2.2.
func TestLayersInsideCoordinator(t *testing.T) {
	forbidden := map[string][]string{
		"coordinator/command": {"coordinator/state", "coordinator/fsm", "coordinator/broker", "coordinator/api", "coordinator/consensus"},
		"coordinator/state":   {"coordinator/fsm", "coordinator/broker", "coordinator/board", "coordinator/api", "coordinator/consensus"},
		"coordinator/fsm":     {"coordinator/broker", "coordinator/board", "coordinator/api", "coordinator/consensus", "coordinator/queue"},
		"coordinator/queue":   {"coordinator"},
		"coordinator/broker":  {"coordinator/api", "coordinator/consensus", "coordinator/board"},
		"coordinator/board":   {"coordinator/api", "coordinator/consensus", "coordinator/broker"},
		"coordinator/api":     {"coordinator/consensus", "coordinator/fsm"},
	}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		for _, imp := range s.imports() {
			ours, ok := strings.CutPrefix(imp, module+"/")
			if !ok {
				continue
			}
			for _, bad := range forbidden[s.dir()] {
				if within(ours, bad) && ours != s.dir() {
					t.Errorf("%s imports %s, which %s must not know", s.path, ours, s.dir())
				}
			}
		}
	}
}

// TestLibrariesStayInTheirPlace holds DESIGN 1: who may know which library.
func TestLibrariesStayInTheirPlace(t *testing.T) {
	homes := map[string][]string{
		"github.com/hashicorp/raft":      {"coordinator/consensus", "coordinator/fsm", "scripts/sim"},
		"github.com/hashicorp/raft-wal":  {"coordinator/consensus"},
		"github.com/hashicorp/go-memdb":  {"coordinator/state"},
		"github.com/valyala/fasthttp":    {"coordinator/api", "coordinator/peer"},
		"github.com/NVIDIA/go-nvml":      {"agent/gpu"},
		"github.com/prometheus/procfs":   {"agent/host"},
		"github.com/spf13/cobra":         {"cmd"},
		"github.com/jedib0t/go-pretty":   {"cmd"},
		"github.com/bufbuild":            {"scripts/gen"},
		"google.golang.org/protobuf/cmd": {"scripts/gen"},
	}
	for _, s := range sources(t) {
		for _, imp := range s.imports() {
			for lib, dirs := range homes {
				if imp != lib && !strings.HasPrefix(imp, lib+"/") {
					continue
				}
				if !inOneOf(s.dir(), dirs) && !(s.test && strings.HasPrefix(s.path, "coordinator/")) && !probe(s.path) {
					t.Errorf("%s imports %s: only %v may", s.path, imp, dirs)
				}
			}
		}
	}
}

// probe names the bench's plain-fasthttp probe, which measures that library.
func probe(path string) bool { return path == "scripts/bench/probe/main.go" }

func inOneOf(dir string, dirs []string) bool {
	for _, d := range dirs {
		if within(dir, d) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}
