package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) orgCommand() *cobra.Command {
	return a.nounCommand("org", "Share the cluster between organisations", []string{"orgs"},
		a.orgCreateCommand(), a.orgListCommand(), a.orgShowCommand(), a.orgSetCommand(), a.orgDeleteCommand())
}

func (a *app) printOrgs(orgs []protocol.Org) error {
	v := view{doc: protocol.Page[protocol.Org]{Data: orgs}, rows: []any{}}
	for _, o := range orgs {
		v.rows = append(v.rows, o)
		v.names = append(v.names, o.ID)
	}
	v.table = func(w io.Writer) {
		rows := make([]table.Row, 0, len(orgs))
		for _, o := range orgs {
			rows = append(rows, table.Row{o.ID, printable(o.Name), o.Weight, queueLimit(o), orNone(int64(o.MaxRunning)), quota(o)})
		}
		writeTable(w, table.Row{"Organisation", "Name", "Weight", "Queue", "Running", "Storage"}, rows)
	}
	return a.print(v)
}

func (a *app) printOrg(o protocol.Org) error {
	return a.print(view{doc: o, names: []string{o.ID}, table: func(w io.Writer) {
		credits := "off"
		if o.Credits.Enabled {
			credits = "on"
		}
		writeTable(w, nil, []table.Row{
			{"Organisation", o.ID}, {"Name", printable(o.Name)}, {"Weight", o.Weight}, {"Jobs that may wait", queueLimit(o)},
			{"Jobs that may run", orNone(int64(o.MaxRunning))}, {"Storage", quota(o)}, {"Credits", credits}, {"Created", until(o.CreatedAt)}, {"Revision", o.Revision},
		})
	}})
}

func queueLimit(o protocol.Org) string {
	if o.QueueLimit == 0 {
		return grouped(protocol.MaxQueueOrg)
	}
	return grouped(int64(o.QueueLimit))
}

func orNone(n int64) string {
	if n == 0 {
		return "no limit"
	}
	return grouped(n)
}

func quota(o protocol.Org) string {
	if o.StorageQuota == 0 {
		return "no limit"
	}
	return protocol.FormatBytes(o.StorageQuota)
}

// orgFlags are what an administrator sets.
type orgFlags struct {
	command        *cobra.Command
	name           string
	weight         int
	queue, running int
	storage        string
	credits        bool
}

func (f *orgFlags) add(cmd *cobra.Command) {
	f.command = cmd
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "for people")
	flags.IntVar(&f.weight, "weight", 1, "of its share while several organisations wait")
	flags.IntVar(&f.queue, "queue-limit", 0, "jobs that may wait; 0 is 100000")
	flags.IntVar(&f.running, "max-running", 0, "jobs that may run at once; 0 is no limit")
	flags.StringVar(&f.storage, "storage-quota", "0", "stored outputs, such as 500GB; 0 is no limit")
	flags.BoolVar(&f.credits, "credits", false, "whether its jobs cost credits")
}

// apply sets what was given on the command line.
func (f *orgFlags) apply(o *protocol.Org) error {
	given := f.command.Flags().Changed
	if given("name") {
		o.Name = f.name
	}
	if given("weight") {
		o.Weight = f.weight
	}
	if given("queue-limit") {
		o.QueueLimit = f.queue
	}
	if given("max-running") {
		o.MaxRunning = f.running
	}
	if given("storage-quota") {
		var size protocol.Size
		if err := size.UnmarshalText([]byte(f.storage)); err != nil {
			return usagef("--storage-quota: %v", err)
		}
		o.StorageQuota = int64(size)
	}
	if given("credits") {
		o.Credits.Enabled = f.credits
	}
	return nil
}

func (a *app) orgCreateCommand() *cobra.Command {
	var set orgFlags
	cmd := &cobra.Command{
		Use: "create ORG", Short: "Make an organisation", Args: args("ORG"),
		Example: `  windlass org create org_acme --name Acme --weight 3 --queue-limit 10000
  windlass key create --org org_acme --permission endpoints:execute,jobs:read,jobs:write`,
		RunE: func(cmd *cobra.Command, given []string) error {
			o := protocol.Org{ID: given[0], Weight: 1}
			if err := set.apply(&o); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if o, err = c.CreateOrg(cmd.Context(), o); err != nil {
				return fmt.Errorf("cannot make organisation %s: %w", given[0], err)
			}
			a.sayf("made %s; give it a key with: windlass key create --org %s --permission ...\n", o.ID, o.ID)
			return a.printOrg(o)
		},
	}
	set.add(cmd)
	return cmd
}

func (a *app) orgSetCommand() *cobra.Command {
	var set orgFlags
	cmd := &cobra.Command{
		Use: "set ORG", Short: "Change what is given, and nothing else", Args: args("ORG"), ValidArgsFunction: a.completeOrgs,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			o, err := c.Org(cmd.Context(), given[0])
			if err == nil {
				if err := set.apply(&o); err != nil {
					return err
				}
				o, err = c.SetOrg(cmd.Context(), o) // refused if somebody changed it meanwhile
			}
			if err != nil {
				return fmt.Errorf("cannot change organisation %s: %w", given[0], err)
			}
			return a.printOrg(o)
		},
	}
	set.add(cmd)
	return cmd
}

func (a *app) orgListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List organisations", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			orgs, err := c.Orgs(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot list organisations: %w", err)
			}
			return a.printOrgs(orgs)
		},
	}
}

func (a *app) orgShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ORG", Short: "Show one organisation", Args: args("ORG"), ValidArgsFunction: a.completeOrgs,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			o, err := c.Org(cmd.Context(), given[0])
			if err != nil {
				return fmt.Errorf("cannot read organisation: %w", err)
			}
			return a.printOrg(o)
		},
	}
}

func (a *app) orgDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete ORG", Aliases: []string{"rm"}, Short: "Remove an organisation that has no endpoints and no keys",
		Args: args("ORG"), ValidArgsFunction: a.completeOrgs,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.DeleteOrg(cmd.Context(), given[0]); err != nil {
				return fmt.Errorf("cannot delete organisation %s: %w", given[0], err)
			}
			a.sayf("deleted %s\n", given[0])
			return nil
		},
	}
}

func (a *app) completeOrgs(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.live(cmd, func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		orgs, err := c.Orgs(ctx)
		var found []cobra.Completion
		for _, o := range orgs {
			found = append(found, cobra.CompletionWithDesc(o.ID, o.Name))
		}
		return found, err
	})
}
