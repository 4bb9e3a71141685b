package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := a.nounCommand("key", "Decide who may call, and what", []string{"keys"},
		a.keyCreateCommand(), a.keyListCommand(), a.keyShowCommand(), a.keyRotateCommand(), a.keyRevokeCommand())
	cmd.Long = `A key belongs to an organisation and holds permissions:

  jobs:read          see jobs, endpoints and agents
  jobs:write         cancel, retry, pause and resume jobs
  endpoints:execute  submit jobs
  endpoints:write    create and change endpoints
  agents:manage      what an agent needs, and nothing else of the API
  keys:manage        make, rotate and revoke keys
  cluster:admin      organisations, coordinators, snapshots, metrics

It cannot grant what it lacks itself. Its text is shown once, by the command that makes it.`
	return cmd
}

// printNewKey shows a key with its text: alone on stdout, so that it can be put
// away without being seen.
func (a *app) printNewKey(k protocol.Key, done string) error {
	err := a.print(view{doc: k, names: []string{k.ID}, table: func(w io.Writer) { _, _ = fmt.Fprintln(w, k.Key) }})
	if err == nil && a.format == formatTable {
		a.sayf("%s %s; its text is not shown again\n", done, k.ID)
	}
	return err
}

func (a *app) printKeys(keys []protocol.Key) error {
	v := view{doc: protocol.Page[protocol.Key]{Data: keys}, rows: []any{}}
	for _, k := range keys {
		v.rows = append(v.rows, k)
		v.names = append(v.names, k.ID)
	}
	v.table = func(w io.Writer) {
		now := time.Now()
		rows := make([]table.Row, 0, len(keys))
		for _, k := range keys {
			rows = append(rows, table.Row{k.ID, printable(k.Name), k.Status, rights(k), bound(k), age(now, k.CreatedAt), until(k.ExpiresAt)})
		}
		writeTable(w, table.Row{"Key", "Name", "Status", "Permissions", "Endpoints", "Age", "Expires"}, rows)
	}
	return a.print(v)
}

func (a *app) printKey(k protocol.Key) error {
	return a.print(view{doc: k, names: []string{k.ID}, table: func(w io.Writer) {
		rows := []table.Row{
			{"Key", k.ID}, {"Organisation", k.Org}, {"Name", printable(k.Name)}, {"Status", k.Status}, {"Permissions", rights(k)},
			{"Endpoints", bound(k)}, {"Created", until(k.CreatedAt)}, {"Expires", until(k.ExpiresAt)}, {"Rotated", until(k.RotatedAt)},
		}
		if !k.OverlapUntil.IsZero() {
			rows = append(rows, table.Row{"Old text until", k.OverlapUntil})
		}
		if !k.RevokedAt.IsZero() {
			rows = append(rows, table.Row{"Revoked", k.RevokedAt})
		}
		writeTable(w, nil, rows)
	}})
}

func rights(k protocol.Key) string {
	list := make([]string, len(k.Permissions))
	for i, p := range k.Permissions {
		list[i] = string(p)
	}
	return strings.Join(list, ",")
}

func bound(k protocol.Key) string {
	if len(k.Endpoints) == 0 {
		return "all"
	}
	return strings.Join(k.Endpoints, ",")
}

// until shows a moment that may not be.
func until(t protocol.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.String()
}
