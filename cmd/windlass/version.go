package main

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Protocol string `json:"protocol"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this binary", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			v := versionInfo{
				Version: a.version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
				Protocol: fmt.Sprintf("%d.%d", protocol.ProtocolMajor, protocol.ProtocolMinor),
			}
			return a.print(view{doc: v, names: []string{v.Version}, table: func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "windlass %s (%s, %s/%s, agent protocol %s)\n", v.Version, v.Go, v.OS, v.Arch, v.Protocol)
			}})
		},
	}
}
