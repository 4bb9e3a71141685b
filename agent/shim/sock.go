package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// A socket address holds 108 bytes, and data directories are longer than that
// on some hosts. The kernel resolves /proc/self/fd/N like any directory, so both
// sides always go through a descriptor of the runtime directory.

func listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, sockFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, d.Close())
	}
	ln, err := net.Listen("unix", throughFD(d))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen in %s: %w", dir, err), d.Close())
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // its path is meaningless once d is closed
	return ln, d.Close()
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "unix", throughFD(d))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot connect to shim in %s: %w", dir, err), d.Close())
	}
	return conn, d.Close()
}

func throughFD(d *os.File) string {
	return "/proc/self/fd/" + strconv.FormatUint(uint64(d.Fd()), 10) + "/" + sockFile
}
