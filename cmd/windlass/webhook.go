package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) webhookCommand() *cobra.Command {
	return a.nounCommand("webhook", "See and repeat webhooks, and sign them", []string{"webhooks"},
		a.webhookDeliveriesCommand(), a.webhookRedeliverCommand(), a.webhookTestCommand(), a.webhookSecretCommand())
}

func (a *app) webhookDeliveriesCommand() *cobra.Command {
	return a.jobAction("deliveries", "Show what became of a job's webhook", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		list, err := c.Webhooks(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot read deliveries: %w", err)
		}
		return a.printDeliveries(list)
	})
}

func (a *app) webhookRedeliverCommand() *cobra.Command {
	return a.jobAction("redeliver", "Send a job's webhook again, with the same id and body", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		list, err := c.Redeliver(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot redeliver: %w", err)
		}
		return a.printDeliveries(list)
	})
}

func (a *app) printDeliveries(list []protocol.WebhookDelivery) error {
	v := view{doc: protocol.Page[protocol.WebhookDelivery]{Data: list}, rows: []any{}}
	for _, d := range list {
		v.rows = append(v.rows, d)
		v.names = append(v.names, d.WebhookID)
	}
	v.table = func(w io.Writer) {
		if len(list) == 0 {
			_, _ = fmt.Fprintln(w, "no webhook: the job has no callback, or has not ended")
		}
		for _, d := range list {
			_, _ = fmt.Fprintf(w, "%s to %s is %s after %d attempts", d.WebhookID, printable(d.URL), d.State, d.Attempts)
			if !d.NextAttemptAt.IsZero() {
				_, _ = fmt.Fprintf(w, ", the next at %s", d.NextAttemptAt)
			}
			_, _ = fmt.Fprintln(w)
			rows := make([]table.Row, 0, len(d.Log))
			for _, t := range d.Log {
				rows = append(rows, attemptRow(t))
			}
			if len(rows) > 0 {
				writeTable(w, table.Row{"Attempt", "Started", "Took", "Status", "Error", "Answer"}, rows)
			}
		}
	}
	return a.print(v)
}

// shownAnswer is how much of a receiver's answer a table has room for.
const shownAnswer = 40

func attemptRow(t protocol.WebhookAttempt) table.Row {
	status, answer := "-", []rune(printable(t.Answer))
	if t.Status > 0 {
		status = fmt.Sprint(t.Status)
	}
	return table.Row{t.Attempt, t.StartedAt, time.Duration(t.Latency * float64(time.Second)).Round(time.Millisecond), status, printable(t.Error), string(answer[:min(len(answer), shownAnswer)])}
}

func (a *app) webhookTestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test URL", Short: "Send a signed test event to a receiver", Args: args("URL"),
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			t, err := c.TestWebhook(cmd.Context(), given[0])
			if err != nil {
				return fmt.Errorf("cannot send a test event: %w", err)
			}
			err = a.print(view{doc: t, names: []string{t.WebhookID}, table: func(w io.Writer) {
				writeTable(w, table.Row{"Attempt", "Started", "Took", "Status", "Error", "Answer"}, []table.Row{attemptRow(t.WebhookAttempt)})
			}})
			if err == nil && !t.Delivered {
				return &exitError{code: exitFailed, err: fmt.Errorf("not delivered: %s", printable(t.Error))}
			}
			return err
		},
	}
}

func (a *app) webhookSecretCommand() *cobra.Command {
	return a.nounCommand("secret", "Decide what webhooks are signed with", []string{"secrets"},
		a.secretCreateCommand(), a.secretRotateCommand(), a.secretListCommand(), a.secretRevokeCommand())
}

func (a *app) secretCreateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "create", Short: "Make the organisation's webhook secret and show it, once", Args: args(),
		Example: `  windlass webhook secret create > webhook.secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.CreateWebhookSecret(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot make a webhook secret: %w", err)
			}
			return a.printNewSecret(s)
		},
	}
}

func (a *app) secretRotateCommand() *cobra.Command {
	const overlap = 24 * time.Hour
	var span time.Duration
	cmd := &cobra.Command{
		Use: "rotate", Short: "Make a new secret and show it, once; the one before signs as well for a while", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if span < 0 {
				return usagef("--overlap must not be negative")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.RotateWebhookSecret(cmd.Context(), span)
			if err != nil {
				return fmt.Errorf("cannot rotate the webhook secret: %w", err)
			}
			return a.printNewSecret(s)
		},
	}
	cmd.Flags().DurationVar(&span, "overlap", overlap, "for how long the secret before signs as well")
	return cmd
}

// printNewSecret shows the text alone on stdout, so that it can be put away without
// being seen.
func (a *app) printNewSecret(s protocol.WebhookSecret) error {
	err := a.print(view{doc: s, names: []string{s.ID.String()}, table: func(w io.Writer) { _, _ = fmt.Fprintln(w, s.Secret) }})
	if err == nil && a.format == formatTable {
		a.sayf("made %s; its text is not shown again\n", s.ID)
	}
	return err
}

func (a *app) secretListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the organisation's webhook secrets, without their texts", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.WebhookSecrets(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot list webhook secrets: %w", err)
			}
			return a.printSecrets(list)
		},
	}
}

func (a *app) printSecrets(list []protocol.WebhookSecret) error {
	v := view{doc: protocol.Page[protocol.WebhookSecret]{Data: list}, rows: []any{}}
	for _, s := range list {
		v.rows = append(v.rows, s)
		v.names = append(v.names, s.ID.String())
	}
	v.table = func(w io.Writer) {
		now := time.Now()
		rows := make([]table.Row, 0, len(list))
		for _, s := range list {
			made := "asked for"
			if s.Automatic {
				made = "by itself"
			}
			rows = append(rows, table.Row{s.ID, made, age(now, s.CreatedAt), until(s.ExpiresAt)})
		}
		writeTable(w, table.Row{"Secret", "Made", "Age", "Signs until"}, rows)
	}
	return a.print(v)
}

func (a *app) secretRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke SECRET_ID", Short: "End a webhook secret at once", Args: args("SECRET_ID"), ValidArgsFunction: a.completeSecrets,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.RevokeWebhookSecret(cmd.Context(), given[0])
			if err != nil {
				return fmt.Errorf("cannot revoke webhook secret: %w", err)
			}
			a.sayf("revoked %s\n", s.ID)
			return nil
		},
	}
}

func (a *app) completeSecrets(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.live(cmd, func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		list, err := c.WebhookSecrets(ctx)
		var found []cobra.Completion
		for _, s := range list {
			found = append(found, cobra.Completion(s.ID.String()))
		}
		return found, err
	})
}
