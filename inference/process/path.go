package process

import (
	"iter"
	"os"
	"path/filepath"
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
