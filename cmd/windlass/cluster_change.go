package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/protocol/retry"
)

// confirm asks for a word to be typed before something that cannot be undone.
func (a *app) confirm(yes bool, word, what string) error {
	a.sayf("%s\n", what)
	if yes {
		return nil
	}
	a.sayf("Type %s to go on: ", word)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	if strings.TrimSpace(line) != word {
		return usagef("nothing was done: type %s when asked, or pass --yes", word)
	}
	return nil
}

func yesFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("yes", false, "do not ask")
}

// oneClient reaches exactly one coordinator: what it does is done there.
func (a *app) oneClient() (*client.Client, error) {
	addrs, err := client.ParseAddrs(a.env("WINDLASS_ADDR"))
	if err == nil && len(addrs) > 1 {
		return nil, usagef("WINDLASS_ADDR names %d coordinators: name the one that is meant", len(addrs))
	}
	return a.client()
}

// clientAt reaches the coordinator at a base URL, with the user's key.
func (a *app) clientAt(url string) (*client.Client, error) {
	one := *a
	one.environ = append(one.environ[:len(one.environ):len(one.environ)], "WINDLASS_ADDR="+url)
	return one.client()
}

func (a *app) clusterTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use: "transfer-leader [SERVER]", Short: "Make another coordinator the leader", Args: cobra.MaximumNArgs(1),
		Long: "Make another coordinator the leader: the one named, or the one that is furthest. Jobs go on; requests wait for a moment.",
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			server := strings.Join(given, "")
			if err := c.TransferLeader(cmd.Context(), server); err != nil {
				return fmt.Errorf("cannot transfer leadership: %w", err)
			}
			a.sayf("leadership was handed on\n")
			return nil
		},
	}
}

func (a *app) clusterRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove SERVER", Short: "Take a coordinator that does not come back out of the cluster", Args: args("SERVER"),
		Long: `Take a coordinator out of the cluster. It is refused when those that remain could not commit anything.

A coordinator that still runs should leave instead (windlass cluster leave). One that was removed and is started again
with its join addresses joins anew.`,
	}
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		m, err := c.ClusterMembers(cmd.Context())
		if err != nil {
			return fmt.Errorf("cannot read members: %w", err)
		}
		gone, ok := member(m, given[0])
		if !ok {
			return &exitError{code: exitNotFound, err: fmt.Errorf("no coordinator %s in this cluster: see windlass cluster status", given[0])}
		}
		if err := a.confirm(*yes, gone.Server, loss(m, gone)); err != nil {
			return err
		}
		if err := c.RemoveMember(cmd.Context(), gone.Server); err != nil {
			return fmt.Errorf("cannot remove %s: %w", gone.Server, err)
		}
		a.sayf("removed %s\n", gone.Server)
		return nil
	}
	return cmd
}

func (a *app) clusterLeaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "leave", Short: "Let the coordinator at WINDLASS_ADDR leave its cluster and stop", Args: args(),
		Long: "Let the coordinator at WINDLASS_ADDR hand leadership on, leave its cluster and end. Its data stays on its disk.",
	}
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.oneClient()
		if err != nil {
			return err
		}
		defer c.Close()
		m, err := c.ClusterMembers(cmd.Context())
		if err != nil {
			return fmt.Errorf("cannot read members: %w", err)
		}
		for _, self := range m.Members {
			if !self.Self {
				continue
			}
			if err := a.confirm(*yes, self.Server, loss(m, self)); err != nil {
				return err
			}
			if err := c.LeaveCluster(cmd.Context()); err != nil {
				return fmt.Errorf("cannot leave: %w", err)
			}
			a.sayf("%s left and stops\n", self.Server)
		}
		return nil
	}
	return cmd
}

func member(m protocol.ClusterMembers, server string) (protocol.ClusterMember, bool) {
	for _, x := range m.Members {
		if x.Server == server {
			return x, true
		}
	}
	return protocol.ClusterMember{}, false
}

func votes(m protocol.ClusterMember) bool {
	return m.Role == protocol.RoleLeader || m.Role == protocol.RoleVoter
}

// loss says what a cluster without one member is.
func loss(m protocol.ClusterMembers, gone protocol.ClusterMember) string {
	voters, alive := 0, 0
	for _, x := range m.Members {
		if x.Server != gone.Server && votes(x) {
			voters++
			if x.Reachable {
				alive++
			}
		}
	}
	if voters == 0 {
		return fmt.Sprintf("%s (%s at %s) is the only voter: the cluster would end with it.", gone.Server, gone.Role, gone.Address)
	}
	text := fmt.Sprintf("%s (%s at %s) goes. %d of the %d voters that remain answer", gone.Server, gone.Role, gone.Address, alive, voters)
	need := voters/2 + 1
	switch {
	case alive < need:
		return text + fmt.Sprintf(", and %d are needed: the cluster would stop.", need)
	case alive == need:
		return text + ": no further one may fail until another one joins. No job is lost."
	}
	return text + fmt.Sprintf(": %d of them may fail. No job is lost.", alive-need)
}

func (a *app) clusterJoinCommand() *cobra.Command {
	timeout := time.Minute
	cmd := &cobra.Command{
		Use: "join HOST:PORT...", Short: "Tell the coordinator at WINDLASS_ADDR where its cluster is", Args: cobra.MinimumNArgs(1),
		Long: `Tell the coordinator at WINDLASS_ADDR, which waits for its cluster, which peer addresses to ask besides those of its
configuration (join), and wait until it has joined and votes. It votes once it has kept up with the log for a few seconds.`,
		Example: "  WINDLASS_ADDR=http://10.0.0.4:7400 windlass cluster join 10.0.0.1:7401",
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.oneClient()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.JoinCluster(cmd.Context(), given); err != nil {
				return fmt.Errorf("cannot join: %w", err)
			}
			return a.awaitVote(cmd.Context(), c, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "stop waiting after this long; the coordinator goes on trying")
	return cmd
}

// awaitVote returns once the coordinator that is asked votes.
func (a *app) awaitVote(ctx context.Context, c *client.Client, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	said := protocol.MemberRole("")
	for {
		m, err := c.ClusterMembers(ctx)
		if err != nil {
			return fmt.Errorf("cannot read members: %w", err)
		}
		for _, x := range m.Members {
			if !x.Self {
				continue
			}
			if x.Role != said {
				a.sayf("%s: %s\n", x.Server, x.Role)
				said = x.Role
			}
			if votes(x) {
				return nil
			}
		}
		if err := retry.Sleep(ctx, lookAgain); err != nil {
			return fmt.Errorf("it does not vote yet: its log says what it waits for: %w", context.Cause(ctx))
		}
	}
}
