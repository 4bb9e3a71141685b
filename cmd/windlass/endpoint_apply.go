package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

// maxEndpointFile bounds a file of endpoint documents: one document fits a
// request body, and a file holds a fleet's worth of small ones.
const maxEndpointFile = protocol.MaxBody

func (a *app) endpointApplyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "apply -f FILE|DIR|-", Short: "Create or update endpoints from YAML documents", Args: args(),
		Example: `  windlass endpoint apply -f endpoints/
  windlass endpoint show ep_story -o yaml | sed s/count/n/ | windlass endpoint apply -f -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("windlass endpoint apply needs -f FILE, a folder, or - for stdin")
			}
			endpoints, err := a.readEndpoints(file)
			if err != nil {
				return err
			}
			return a.applyEndpoints(cmd.Context(), endpoints)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML file, folder of *.yaml and *.yml, or - for stdin")
	return cmd
}

// applyEndpoints reads everything before it sends anything, and stops at the
// first refusal; what was applied before is named.
func (a *app) applyEndpoints(ctx context.Context, endpoints []protocol.Endpoint) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	applied := make([]protocol.Endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		stored, err := c.ApplyEndpoint(ctx, e)
		if err != nil {
			for _, done := range applied {
				a.sayf("applied %s revision %d\n", done.ID, done.Revision)
			}
			return fmt.Errorf("cannot apply endpoint %s: %w", e.ID, err)
		}
		applied = append(applied, stored)
	}
	return a.printEndpoints(applied)
}

func (a *app) readEndpoints(file string) ([]protocol.Endpoint, error) {
	files := []string{file}
	if info, err := os.Stat(file); file != "-" && err == nil && info.IsDir() {
		if files, err = endpointFiles(file); err != nil {
			return nil, err
		}
	}
	var all []protocol.Endpoint
	for _, f := range files {
		name, text, err := a.readFile(f, maxEndpointFile)
		if err != nil {
			return nil, err
		}
		docs, err := decodeStrict(name, text, protocol.Endpoint{})
		if err != nil {
			return nil, err
		}
		for i, e := range docs {
			if err := checkEndpoint(e); err != nil {
				return nil, usagef("cannot use %s, document %d: %v", name, i+1, err)
			}
		}
		all = append(all, docs...)
	}
	if len(all) == 0 {
		return nil, usagef("cannot apply %s: it holds no endpoint document", file)
	}
	return all, nil
}

func endpointFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, usagef("cannot read folder: %v", err)
	}
	var files []string
	for _, e := range entries {
		ext := strings.ToLower(filepath.Ext(e.Name()))
		if !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// checkEndpoint finds what would not even reach the right resource; the
// coordinator checks the rest.
func checkEndpoint(e protocol.Endpoint) error {
	if e.Kind != "" && e.Kind != protocol.EndpointKind {
		return fmt.Errorf("kind is %q, want %s", e.Kind, protocol.EndpointKind)
	}
	if e.ID == "" {
		return fmt.Errorf("id is missing")
	}
	return nil
}
