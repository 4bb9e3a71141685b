package command

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed handlers/windlass.py handlers/windlass.mjs
var handlers embed.FS

// FDVariable names the descriptor for messages in the child's environment.
const FDVariable = "WINDLASS_FD"

// HandlersVariable names the directory with the handler helpers for Python and
// Node in the child's environment; it is on PYTHONPATH and NODE_PATH too.
const HandlersVariable = "WINDLASS_HANDLERS"

// WriteHandlers writes the handler helpers windlass.py and windlass.mjs into dir.
func WriteHandlers(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write handler helpers: %w", err)
	}
	entries, err := handlers.ReadDir("handlers")
	if err != nil {
		return fmt.Errorf("cannot read handler helpers: %w", err)
	}
	for _, e := range entries {
		b, err := handlers.ReadFile("handlers/" + e.Name())
		if err != nil {
			return fmt.Errorf("cannot read handler helpers: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), b, 0o644); err != nil {
			return fmt.Errorf("cannot write handler helpers: %w", err)
		}
	}
	return nil
}

// environment adds ours to the child's variables; the helpers come last in the
// search paths, so that they shadow nothing of the program.
func environment(env []string, dir string) []string {
	// Of two values for one name programs disagree which counts, so ours replace.
	out := slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{FDVariable, HandlersVariable, "PYTHONPATH", "NODE_PATH"}, name)
	})
	out = append(out, FDVariable+"=3", HandlersVariable+"="+dir)
	for _, name := range []string{"PYTHONPATH", "NODE_PATH"} {
		path := dir
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok && v != "" {
				path = v + string(filepath.ListSeparator) + dir
			}
		}
		out = append(out, name+"="+path)
	}
	return out
}
