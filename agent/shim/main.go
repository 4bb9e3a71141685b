package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"windlass/agent/host"
	"windlass/inference"
)

// envReady names the descriptor on which a shim tells its state once it listens.
const envReady = "WINDLASS_SHIM_READY_FD"

// Main is the entry point of `windlass shim DIR`: it runs one runtime instance
// until it ends, is stopped, or has been without an agent for too long. The
// exit status is 0 after an orderly end.
func Main(dir string, runtimes []inference.Runtime) int {
	// A parent-death signal fires when the thread that forked ends (agent.md 6.4).
	// The main thread ends last if nothing else may run on it.
	runtime.LockOSThread()
	log := zerolog.New(os.Stderr).With().Timestamp().Str("component", "shim").Logger()
	if err := run(dir, runtimes, log); err != nil {
		log.Error().Err(err).Msg("shim failed")
		return 1
	}
	return 0
}

func run(dir string, runtimes []inference.Runtime, log zerolog.Logger) error {
	spec, err := ReadSpec(dir)
	if err != nil {
		return err
	}
	rt, err := runtimeOf(runtimes, spec.Instance.Runtime.Kind)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become child subreaper: %w", err)
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	ln, err := listen(dir)
	if err != nil {
		return err
	}
	self, err := host.Identify(os.Getpid())
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	state := State{Version: Version, Shim: self}
	if err := writeJSON(filepath.Join(dir, stateFile), state); err != nil {
		return errors.Join(fmt.Errorf("cannot write runtime state: %w", err), ln.Close())
	}
	if err := announce(state); err != nil {
		return errors.Join(err, ln.Close())
	}
	s := newServer(dir, spec, state, log)
	return s.serve(ctx, ln, rt)
}

func runtimeOf(runtimes []inference.Runtime, kind string) (inference.Runtime, error) {
	for _, rt := range runtimes {
		if rt.Kind() == kind {
			return rt, nil
		}
	}
	return nil, fmt.Errorf("cannot run runtime kind %q: this program does not have it", kind)
}

// announce tells the opener that the socket is there; without an opener that
// waits it does nothing.
func announce(state State) error {
	v := os.Getenv(envReady)
	if v == "" {
		return nil
	}
	fd, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("cannot parse %s: %w", envReady, err)
	}
	f := os.NewFile(uintptr(fd), "ready")
	return errors.Join(json.NewEncoder(f).Encode(state), f.Close())
}
