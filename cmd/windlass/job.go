package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobCommand() *cobra.Command {
	return a.nounCommand("job", "Look at jobs and act on them", []string{"j"},
		a.jobStatusCommand(), a.jobListCommand(), a.jobWatchCommand(), a.jobLogsCommand(), a.jobOutputCommand(),
		a.jobCancelCommand(), a.jobPauseCommand(), a.jobResumeCommand(), a.jobRetryCommand(), a.jobExplainCommand())
}

// jobAction is a command on one job: it resolves the id before it acts.
func (a *app) jobAction(use, short string, act func(context.Context, *client.Client, protocol.JobID) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " JOB", Short: short, Args: args("JOB"), ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			id, err := findJob(cmd.Context(), c, given[0])
			if err != nil {
				return err
			}
			return act(cmd.Context(), c, id)
		},
	}
}

// minPrefix is the shortest part of an id that is looked up: the first ten
// characters are the time, and fewer than six say the same for every job of a year.
const minPrefix = 6

// findJob reads a job id, or a unique beginning of one of the newest jobs.
func findJob(ctx context.Context, c *client.Client, text string) (protocol.JobID, error) {
	id, err := protocol.ParseJobID(text)
	if err == nil {
		return id, nil
	}
	prefix := "job_" + strings.ToUpper(strings.TrimPrefix(strings.ToLower(text), "job_"))
	if len(prefix) < len("job_")+minPrefix || len(prefix) >= len(id.String()) {
		return id, usagef("%q is no job id: want job_ and 26 characters, or at least %d of them", text, minPrefix)
	}
	page, err := c.Jobs(ctx, client.ListOptions{Limit: protocol.MaxListLimit})
	if err != nil {
		return id, fmt.Errorf("cannot look up job %s: %w", text, err)
	}
	var found []protocol.JobID
	for _, j := range page.Data {
		if strings.HasPrefix(j.JobID.String(), prefix) {
			found = append(found, j.JobID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return id, fmt.Errorf("cannot find job: %w", &protocol.Error{Code: protocol.CodeJobNotFound, Message: "none of the newest jobs begins with " + prefix})
	default:
		return id, usagef("%q begins %d job ids; give more of it", text, len(found))
	}
}

// printJob shows one status document.
func (a *app) printJob(s protocol.JobStatus) error {
	return a.print(view{doc: s, names: []string{s.JobID.String()}, table: func(w io.Writer) {
		writeTable(w, nil, jobRows(s))
	}})
}

func jobRows(s protocol.JobStatus) []table.Row {
	state := s.Status.String()
	if s.Substate != "" {
		state += " (" + string(s.Substate) + ")"
	}
	rows := []table.Row{
		{"Job", s.JobID}, {"Status", state}, {"Endpoint", s.EndpointID}, {"Priority", s.Priority}, {"Created", s.CreatedAt},
	}
	add := func(name string, value any, shown bool) {
		if shown {
			rows = append(rows, table.Row{name, value})
		}
	}
	add("Started", s.StartedAt, !s.StartedAt.IsZero())
	add("Progress", percent(s.Progress), s.Progress != nil)
	add("Step", printable(s.CurrentStep), s.CurrentStep != "")
	if s.Throughput != nil {
		add("Rate", rate(s.Throughput), true)
	}
	add("Next retry", s.NextRetryAt, !s.NextRetryAt.IsZero())
	ended := endOf(s)
	add("Ended", ended, !ended.IsZero())
	rows = append(rows, figureRows(s)...)
	if s.Error != nil {
		add("Error", printable(s.Error.Error()), true)
	}
	for k, v := range sorted(s.Tags) {
		add("Tag "+printable(k), printable(v), true)
	}
	return rows
}

func endOf(s protocol.JobStatus) protocol.Time {
	return max(s.CompletedAt, s.FailedAt, s.CancelledAt, s.TimedOutAt)
}

// listRows are the columns of a job list.
func listRows(now time.Time, jobs []protocol.JobStatus) []table.Row {
	rows := make([]table.Row, 0, len(jobs))
	for _, j := range jobs {
		rows = append(rows, table.Row{j.JobID, j.Status, j.EndpointID, j.Priority, percent(j.Progress), age(now, j.CreatedAt)})
	}
	return rows
}
