package consensus

import (
	"os"
	"syscall"
)

// syncData syncs the bytes of a file that never grows, without its times: it
// then needs no commit of the file system's own log, which the raft log's syncs
// would wait for.
func syncData(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
