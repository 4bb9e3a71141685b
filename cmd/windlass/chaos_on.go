//go:build chaos

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"windlass/coordinator"
)

// The folder that WINDLASS_CHAOS names may hold these files; consensus has
// further ones.
const (
	chaosFolder = "WINDLASS_CHAOS"
	clockFile   = "clock" // milliseconds that the wall clock is wrong by
	peersFile   = "peers" // lines "host:port host:port": a peer, and where to dial instead
)

// underChaos gives the coordinator a wall clock that can be set while it runs,
// and ways to its peers that can be cut.
func underChaos(o coordinator.Options) coordinator.Options {
	dir := os.Getenv(chaosFolder)
	if dir == "" {
		return o
	}
	o.WallMs = func() int64 { return time.Now().UnixMilli() + wrongBy(filepath.Join(dir, clockFile)) }
	o.Rewrite = func(host string) string { return wayTo(filepath.Join(dir, peersFile), host) }
	return o
}

func wayTo(file, host string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return host
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if peer, other, ok := strings.Cut(line, " "); ok && peer == host {
			return other
		}
	}
	return host
}

func wrongBy(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	ms, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return ms
}
