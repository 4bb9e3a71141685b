// Package builtin is the runtime that every agent has: small handlers in a child
// process of our own binary, one of them a language model. See DESIGN.md.
package builtin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"windlass/inference"
	"windlass/inference/command"
	"windlass/protocol"
)

const (
	// Kind is the runtime kind in an endpoint document.
	Kind = "builtin"
	// Subcommand is the hidden subcommand of our binary that calls Main.
	Subcommand = "builtin"
)

// The handlers, as named in Endpoint.runtime.handler.
const (
	HandlerStory    = "story"    // see SampleEndpoints
	HandlerDocument = "document" // see SampleEndpoints
	HandlerEcho     = "echo"     // see SampleEndpoints
	HandlerImages   = "images"   // see SampleEndpoints
)

func handlerNames() []string {
	return []string{HandlerStory, HandlerDocument, HandlerEcho, HandlerImages}
}

// Runtime starts handlers. It holds no state.
type Runtime struct {
	child *command.Runtime
}

// New returns the runtime.
func New() *Runtime { return &Runtime{child: command.New()} }

// Kind implements inference.Runtime.
func (*Runtime) Kind() string { return Kind }

// Start implements inference.Runtime: spec.Executable is started with the hidden
// subcommand and speaks the protocol of the command runtime. A handler or a
// model that cannot run is a *inference.Failure with RUNTIME_REFUSED or
// RUNTIME_START.
func (r *Runtime) Start(ctx context.Context, spec inference.Spec, sink inference.Sink) (inference.Instance, error) {
	args, err := childArgs(spec)
	if err != nil {
		return nil, err
	}
	spec.Runtime.Command = args
	spec.Runtime.Workdir = ""
	instance, err := r.child.Start(ctx, spec, sink)
	if err != nil {
		return nil, final(err)
	}
	return instance, nil
}

// final makes the failure of a child that refused its handler or model one that
// is not tried again, with the child's own words.
func final(err error) error {
	var f *inference.Failure
	if !errors.As(err, &f) {
		return err
	}
	tail, _ := f.Details["logTail"].([]string)
	if code, _ := f.Details["exitCode"].(int); code != exitRefused || len(tail) == 0 {
		return err
	}
	return &inference.Failure{Code: protocol.CodeRuntimeRefused, Message: tail[len(tail)-1], Crashed: true}
}

// childArgs is the command line of the child.
func childArgs(spec inference.Spec) ([]string, error) {
	if spec.Executable == "" {
		return nil, refused("the agent did not say which program it is; start it by its path")
	}
	if !slices.Contains(handlerNames(), spec.Runtime.Handler) {
		return nil, refused(fmt.Sprintf("the built-in runtime has no handler %q; use %s", spec.Runtime.Handler, strings.Join(handlerNames(), ", ")))
	}
	args := []string{spec.Executable, Subcommand, "--handler", spec.Runtime.Handler, "--slots", strconv.Itoa(max(spec.Concurrency, 1))}
	if model := spec.Runtime.Model; model != "" {
		if !filepath.IsAbs(model) {
			return nil, refused(fmt.Sprintf("runtime.model %q is no absolute path; name the GGUF file as it lies on the agent", model))
		}
		args = append(args, "--model", model)
	}
	for _, network := range spec.Networks {
		args = append(args, "--fetch-allow", network)
	}
	return args, nil
}

func refused(message string) *inference.Failure {
	return &inference.Failure{Code: protocol.CodeRuntimeRefused, Message: message}
}
