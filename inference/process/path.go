package process

import (
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func hasSlash(name string) bool { return strings.ContainsRune(name, '/') }

// pathList yields the directories of the last PATH in env, as the C library
// reads it.
func pathList(env []string) iter.Seq[string] {
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	return func(yield func(string) bool) {
		for _, d := range filepath.SplitList(path) {
			if !yield(d) {
				return
			}
		}
	}
}

// executable returns the path of an executable file name in d, or "". An empty
// or relative d is relative to the child's own directory.
func executable(d, dir, name string) string {
	path := filepath.Join(d, name)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// markOf is the mark of the tree: the last one in Env, which the supervisor above
// appended, else ID. An earlier one is the user's, and could name another tree.
func markOf(cfg Config) string {
	for _, kv := range slices.Backward(cfg.Env) {
		if v, ok := strings.CutPrefix(kv, MarkVariable+"="); ok && v != "" {
			return v
		}
	}
	return cfg.ID
}

// withMark is env with exactly one mark; of two, programs disagree which counts.
func withMark(env []string, id string) []string {
	out := slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, MarkVariable+"=") })
	return append(out, MarkVariable+"="+id)
}
