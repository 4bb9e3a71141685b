package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/coordinator/consensus"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/protocol/retry"
)

func (a *app) clusterSnapshotCommand() *cobra.Command {
	cmd := a.nounCommand("snapshot", "Back up the state of the cluster, and bring it back", nil,
		a.snapshotSaveCommand(), a.snapshotInspectCommand(), a.snapshotVerifyCommand(), a.snapshotRestoreCommand())
	cmd.Long = `Back up the state of the cluster in one file, and bring it back.

A snapshot holds everything that was acknowledged before it: jobs, results up to 64 KiB, endpoints, agents. Larger inputs and
results are files in blob.dir (or the bucket): back that up after the snapshot, with any tool that copies files.`
	return cmd
}

// snapshotInfo is what `snapshot inspect` shows.
type snapshotInfo struct {
	consensus.Backup
	Bytes     int64          `json:"fileBytes"`
	ClockMs   int64          `json:"clockMs"` // replicated clock, unix milliseconds
	Jobs      map[string]int `json:"jobs"`    // by status
	Endpoints int            `json:"endpoints"`
	Agents    int            `json:"agents"`
}

// live counts the jobs that are not ended.
func (i snapshotInfo) live() (queued, running int) {
	for s, n := range i.Jobs {
		switch s {
		case protocol.StatusQueued.String(), protocol.StatusPaused.String():
			queued += n
		case protocol.StatusInitializing.String(), protocol.StatusRunning.String():
			running += n
		}
	}
	return queued, running
}

// inspect reads a whole snapshot file and fails when it is not sound.
func inspect(path string) (snapshotInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return snapshotInfo{}, usagef("cannot read snapshot: %v", err)
	}
	defer f.Close()
	store := state.New()
	info := snapshotInfo{Jobs: map[string]int{}}
	info.Backup, err = consensus.ReadBackup(f, io.Discard, func(r io.Reader) error { return fsm.New(store).Restore(io.NopCloser(r)) })
	if err != nil {
		return info, fmt.Errorf("cannot use %s: %w", path, err)
	}
	stat, err := f.Stat()
	if err != nil {
		return info, fmt.Errorf("cannot read snapshot: %w", err)
	}
	v := store.View()
	info.Bytes, info.ClockMs = stat.Size(), v.ClockMs()
	info.Endpoints, info.Agents = len(v.Endpoints("")), len(v.Agents())
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		info.Jobs[j.Status.String()]++
		return true
	})
	return info, nil
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "save FILE", Short: "Write a snapshot of everything that was acknowledged", Args: args("FILE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			c, _, err := a.leaderClient(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			if err := save(cmd.Context(), c, given[0]); err != nil {
				return err
			}
			info, err := inspect(given[0])
			if err != nil {
				return err
			}
			return a.printSnapshot(given[0], info)
		},
	}
}

// save writes the file whole: a name that is there is a sound snapshot.
func save(ctx context.Context, c *client.Client, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	_, err = c.SaveSnapshot(ctx, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = consensus.ReadBackup(f, io.Discard, fsm.Verify)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot save snapshot: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func (a *app) snapshotInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inspect FILE", Short: "Show what is in a snapshot file", Args: args("FILE"),
		RunE: func(_ *cobra.Command, given []string) error {
			info, err := inspect(given[0])
			if err != nil {
				return err
			}
			return a.printSnapshot(given[0], info)
		},
	}
}

func (a *app) snapshotVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE...", Short: "Read snapshot files to their end and check every checksum", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, given []string) error {
			for _, path := range given {
				f, err := os.Open(path)
				if err != nil {
					return usagef("cannot read snapshot: %v", err)
				}
				_, err = consensus.ReadBackup(f, io.Discard, fsm.Verify)
				if err = errors.Join(err, f.Close()); err != nil {
					return fmt.Errorf("cannot use %s: %w", path, err)
				}
				a.sayf("%s is sound\n", path)
			}
			return nil
		},
	}
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Replace the state of the cluster by a snapshot", Args: args("FILE"),
		Long: `Replace the state of the cluster by a snapshot. Everything since then is lost, and every lease is given back: what runs
now is stopped, and what ran at the time of the snapshot runs again.`,
	}
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		info, err := inspect(given[0])
		if err != nil {
			return err
		}
		c, m, err := a.leaderClient(cmd.Context())
		if err != nil {
			return err
		}
		defer c.Close()
		now, err := c.Cluster(cmd.Context(), false)
		if err != nil {
			return fmt.Errorf("cannot read cluster status: %w", err)
		}
		if err := a.confirm(*yes, m.Cluster, replaced(info, now, m.Cluster)); err != nil {
			return err
		}
		f, err := os.Open(given[0])
		if err != nil {
			return usagef("cannot read snapshot: %v", err)
		}
		defer f.Close()
		out, err := c.RestoreSnapshot(cmd.Context(), m.Cluster, f, info.Bytes)
		if err != nil {
			return fmt.Errorf("cannot restore snapshot: %w", err)
		}
		a.sayf("restored: %s jobs have not ended, %d agents must register again, which they do by themselves\n", grouped(int64(out.Jobs.Queued+out.Jobs.Running)), out.Agents)
		return nil
	}
	return cmd
}

// replaced says what a restore costs.
func replaced(info snapshotInfo, now protocol.ClusterStatus, cluster string) string {
	queued, running := info.live()
	from := ""
	if info.Cluster != cluster {
		from = fmt.Sprintf(" OF ANOTHER CLUSTER (%s)", info.Cluster)
	}
	age := time.Since(time.UnixMilli(info.TakenMs)).Round(time.Second)
	return fmt.Sprintf("The state of cluster %s (%s queued, %s running, index %d) is replaced by a snapshot%s that is %s old (%s queued, %s running, index %d).\n"+
		"Everything since then is lost: submitted jobs, results, endpoints. Every lease is given back, and running jobs begin anew.",
		cluster, grouped(int64(now.Jobs.Queued)), grouped(int64(now.Jobs.Running)), now.Index, from, age,
		grouped(int64(queued)), grouped(int64(running)), info.Index)
}

// leaderClient reaches the leader itself: a snapshot is more than is relayed.
func (a *app) leaderClient(ctx context.Context) (*client.Client, protocol.ClusterMembers, error) {
	c, err := a.client()
	if err != nil {
		return nil, protocol.ClusterMembers{}, err
	}
	m, i, err := awaitLeader(ctx, c)
	switch {
	case err != nil:
		c.Close()
		return nil, m, err
	case m.Members[i].Self && !strings.Contains(a.env("WINDLASS_ADDR"), ","), m.Members[i].URL == "":
		return c, m, nil
	}
	c.Close()
	c, err = a.clientAt(m.Members[i].URL)
	return c, m, err
}

// leaderTime is how long a command waits for a leader: several elections, as
// after one that was just handed on.
const leaderTime = 10 * time.Second

// awaitLeader returns the members, and the place of the leader among them.
func awaitLeader(ctx context.Context, c *client.Client) (m protocol.ClusterMembers, leader int, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	for tries := 0; ; tries++ {
		m, err = c.ClusterMembers(ctx)
		if err != nil {
			return m, -1, fmt.Errorf("cannot read members: %w", err)
		}
		leader = slices.IndexFunc(m.Members, func(x protocol.ClusterMember) bool { return x.Role == protocol.RoleLeader })
		if leader >= 0 {
			return m, leader, nil
		}
		if (retry.Backoff{Max: time.Second}).Wait(ctx, tries) != nil {
			return m, -1, &exitError{code: exitUnavailable, err: errors.New("no leader is known: see windlass cluster status")}
		}
	}
}

func (a *app) printSnapshot(path string, info snapshotInfo) error {
	return a.print(view{doc: info, names: []string{path}, table: func(w io.Writer) {
		rows := []table.Row{
			{"File", path}, {"Size", protocol.FormatBytes(info.Bytes)}, {"Taken", protocol.Time(info.TakenMs)},
			{"Cluster", info.Cluster}, {"By", info.Server}, {"Version", info.Version}, {"Index", info.Index}, {"Term", info.Term},
			{"Clock", protocol.Time(info.ClockMs)}, {"Endpoints", info.Endpoints}, {"Agents", info.Agents},
		}
		for _, s := range slices.Sorted(maps.Keys(info.Jobs)) {
			rows = append(rows, table.Row{"Jobs " + s, grouped(int64(info.Jobs[s]))})
		}
		writeTable(w, nil, rows)
	}})
}
