package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) clusterDebugCommand() *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "debug -o FILE", Short: "Collect what a developer needs to find a fault, without secrets", Args: args(),
		Long: `Collect from every coordinator its configuration, standing, metrics, stacks and newest log lines in one .tar.gz file.

No keys, no inputs and no outputs of jobs are in it. Ids of jobs, names of endpoints and host names are.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("name the file to write: windlass cluster debug -o debug.tar.gz")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			m, err := c.ClusterMembers(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot read members: %w", err)
			}
			parts := a.collect(cmd.Context(), m)
			raw, err := archive(parts, time.Now())
			if err == nil {
				err = writeWhole(file, raw, keyMode)
			}
			if err != nil {
				return err
			}
			a.sayf("wrote %s (%s)\n", file, protocol.FormatBytes(int64(len(raw))))
			return nil
		},
	}
	// It shadows the format of -o: there is nothing to print.
	cmd.Flags().StringVarP(&file, "output", "o", "", "file to write, .tar.gz")
	return cmd
}

// evidence is one file of the archive.
type evidence struct {
	name string
	text []byte
}

// debugTime bounds what one coordinator is waited for: one that hangs is why
// somebody collects this.
const debugTime = 20 * time.Second

// collect asks all members at the same time. What cannot be had is said in a
// file of its own.
func (a *app) collect(ctx context.Context, m protocol.ClusterMembers) []evidence {
	all := make([][]evidence, len(m.Members))
	var asks sync.WaitGroup
	for i, x := range m.Members {
		asks.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, debugTime, errors.New("no answer in time"))
			defer cancel()
			all[i] = a.collectOne(ctx, x)
		})
	}
	asks.Wait()
	parts := []evidence{{"members.json", indented(m)}}
	for _, p := range all {
		parts = append(parts, p...)
	}
	return parts
}

func (a *app) collectOne(ctx context.Context, m protocol.ClusterMember) []evidence {
	dir := strings.Map(func(r rune) rune {
		if r == '/' || r == ':' {
			return '_'
		}
		return r
	}, cmp.Or(m.Server, m.Address))
	var parts []evidence
	failed := func(what string, err error) {
		parts = append(parts, evidence{dir + "/" + what + ".error.txt", []byte(err.Error() + "\n")})
	}
	url := m.URL
	if addr := a.env("WINDLASS_ADDR"); m.Self && !strings.Contains(addr, ",") {
		url = addr // it answered there
	}
	c, err := a.clientAt(url)
	if url == "" && !m.Self || err != nil {
		failed("all", errors.Join(errors.New("the address of its API is not known"), err))
		return parts
	}
	defer c.Close()
	if s, err := c.Cluster(ctx, true); err != nil {
		failed("status", err)
	} else {
		parts = append(parts, evidence{dir + "/status.json", indented(s)})
	}
	if text, err := c.Metrics(ctx); err != nil {
		failed("metrics", err)
	} else {
		parts = append(parts, evidence{dir + "/metrics.txt", text})
	}
	d, err := c.ClusterDebug(ctx)
	if err != nil {
		failed("debug", err)
		return parts
	}
	log, stacks := strings.Join(d.Log, "\n")+"\n", d.Goroutines
	d.Log, d.Goroutines = nil, ""
	return append(parts, evidence{dir + "/debug.json", indented(d)}, evidence{dir + "/log.txt", []byte(log)}, evidence{dir + "/goroutines.txt", []byte(stacks)})
}

func indented(v any) []byte {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return []byte(err.Error())
	}
	return append(raw, '\n')
}

func archive(parts []evidence, now time.Time) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	tape := tar.NewWriter(zip)
	const fileMode fs.FileMode = 0o600
	for _, p := range parts {
		h := &tar.Header{Name: "windlass-debug/" + p.name, Mode: int64(fileMode), Size: int64(len(p.text)), ModTime: now}
		if err := tape.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("cannot write archive: %w", err)
		}
		if _, err := tape.Write(p.text); err != nil {
			return nil, fmt.Errorf("cannot write archive: %w", err)
		}
	}
	if err := errors.Join(tape.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("cannot write archive: %w", err)
	}
	return out.Bytes(), nil
}
