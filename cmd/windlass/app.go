package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"windlass/protocol/client"
)

// app is what a command needs of its surroundings, so that tests can bring their own.
type app struct {
	in          io.Reader
	out         io.Writer // data
	err         io.Writer // talk
	outTerminal bool
	errTerminal bool
	environ     []string // "K=V"
	version     string

	format string // of -o, set when flags are parsed
}

// run executes one command line and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if text := describe(err); text != "" {
		a.sayf("windlass: %s\n", text)
	}
	return exitCode(err)
}

// env returns the last value of a variable, as the system does.
func (a *app) env(name string) string {
	value := ""
	for _, kv := range a.environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// sayf writes talk; a closed stderr is nobody's concern.
func (a *app) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format, args...)
}

// client returns the SDK configured by WINDLASS_ADDR, WINDLASS_API_KEY and
// WINDLASS_CACERT.
func (a *app) client() (*client.Client, error) {
	addrs, err := client.ParseAddrs(a.env("WINDLASS_ADDR"))
	if err != nil {
		return nil, usagef("WINDLASS_ADDR: %v", err)
	}
	https, err := trusting("WINDLASS_CACERT", a.env("WINDLASS_CACERT"))
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{
		HTTP: https, Addrs: addrs, Key: strings.TrimSpace(a.env("WINDLASS_API_KEY")), UserAgent: "windlass/" + a.version,
	})
}
