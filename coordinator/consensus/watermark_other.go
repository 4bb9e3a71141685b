//go:build !linux

package consensus

import "os"

func syncData(f *os.File) error { return f.Sync() }
