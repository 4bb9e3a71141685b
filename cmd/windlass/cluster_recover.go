package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/coordinator/consensus"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
)

func (a *app) clusterRecoverCommand() *cobra.Command {
	survey, force := false, false
	cmd := &cobra.Command{
		Use: "recover DIR|SURVEY...", Short: "Start over from a survivor when a majority of coordinators is lost for good", Args: cobra.MinimumNArgs(1),
		Long: `Start over from a survivor when a majority of coordinators is lost for good.

The coordinators must be stopped. DIR is the data directory of a survivor on this machine. With survivors on several machines,
write a survey of each (--survey -o json DIR > NAME.json), bring these files to one machine, and name them beside its DIR: the
command compares them and says which survivor has most. There it makes that survivor the only voter of a new cluster, with
everything that its log holds. The others start with empty data directories and join it.`,
		Example: `  windlass cluster recover --survey -o json /var/lib/windlass > b.json
  windlass cluster recover /var/lib/windlass b.json`,
	}
	yes := yesFlag(cmd)
	cmd.Flags().BoolVar(&survey, "survey", false, "only say what the directories hold")
	cmd.Flags().BoolVar(&force, "force", false, "also when a majority survives, or another survivor has more")
	cmd.RunE = func(_ *cobra.Command, given []string) error {
		found, err := readSurvivors(given)
		if err != nil {
			return err
		}
		if survey {
			return a.printSurvivors(found)
		}
		best := slices.MaxFunc(found, func(x, y survivor) int { return x.compare(y) })
		a.sayf("%s\n", comparison(found, best))
		chosen, err := choose(found, best, force)
		if err != nil {
			return err
		}
		if err := a.confirm(*yes, chosen.Server, consequence(found, chosen)); err != nil {
			return err
		}
		log, err := a.newLogger("error", "json")
		if err != nil {
			return err
		}
		if _, err := consensus.Recover(chosen.dir, consensus.RecoverConfig{FSM: fsm.New(state.New()), Verify: fsm.Verify, Log: log}); err != nil {
			return err
		}
		a.sayf("%s is the only voter of a new cluster now.\nNext: start it with the configuration that it had. On every other coordinator move the data directory away, "+
			"then start it: it joins as a new one.\n", chosen.Server)
		return nil
	}
	return cmd
}

// survivor is one data directory, or what a survey said of one elsewhere.
type survivor struct {
	From          string          `json:"from"` // as named on the command line
	Server        string          `json:"server"`
	Cluster       string          `json:"cluster"`
	LastTerm      uint64          `json:"lastTerm"` // of the newest entry
	LastIndex     uint64          `json:"lastIndex"`
	SnapshotIndex uint64          `json:"snapshotIndex"`
	Voters        []survivorVoter `json:"voters"` // of the newest configuration in its log
	dir           string          // "" when it is elsewhere
}

type survivorVoter struct {
	Server  string `json:"server"`
	Address string `json:"address"`
}

// compare is positive when s has more than o, by the rule for votes.
func (s survivor) compare(o survivor) int {
	return cmp.Or(cmp.Compare(s.LastTerm, o.LastTerm), cmp.Compare(s.LastIndex, o.LastIndex))
}

func newSurvivor(from, dir string, s consensus.Survey) survivor {
	out := survivor{From: from, dir: dir, Server: s.ServerID, Cluster: s.ClusterID, LastTerm: s.LastTerm, LastIndex: s.LastIndex, SnapshotIndex: s.SnapshotIndex}
	for _, v := range s.Servers {
		if v.Voter {
			out.Voters = append(out.Voters, survivorVoter{v.Server, v.Host})
		}
	}
	return out
}

func readSurvivors(given []string) ([]survivor, error) {
	var out []survivor
	for _, path := range given {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, usagef("cannot read %s: %v", path, err)
		case info.IsDir():
			dir := path
			if _, err := os.Stat(filepath.Join(path, "coordinator")); err == nil {
				dir = filepath.Join(path, "coordinator")
			}
			if _, err := os.Stat(filepath.Join(dir, "raft")); errors.Is(err, fs.ErrNotExist) {
				return nil, usagef("%s is no data directory of a coordinator: name the directory that its configuration calls data", path)
			}
			s, err := consensus.ReadSurvey(dir)
			if err != nil {
				return nil, err
			}
			out = append(out, newSurvivor(path, dir, s))
		default:
			list, err := readSurvey(path)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
	}
	for i, s := range out {
		if s.LastIndex == 0 || s.Cluster == "" {
			return nil, usagef("%s was in no cluster: there is nothing to recover from it", s.From)
		}
		if s.Cluster != out[0].Cluster {
			return nil, usagef("%s was in cluster %s and %s in %s: name survivors of one cluster", out[0].From, out[0].Cluster, s.From, s.Cluster)
		}
		if slices.ContainsFunc(out[:i], func(o survivor) bool { return o.Server == s.Server }) {
			return nil, usagef("coordinator %s is named twice", s.Server)
		}
	}
	return out, nil
}

func readSurvey(path string) ([]survivor, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("cannot read survey: %v", err)
	}
	var list []survivor
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, usagef("cannot read survey %s: write it with: windlass cluster recover --survey -o json DIR", path)
	}
	for i := range list {
		list[i].From = path
	}
	return list, nil
}

func (a *app) printSurvivors(found []survivor) error {
	names := make([]string, len(found))
	for i, s := range found {
		names[i] = s.Server
	}
	return a.print(view{doc: found, names: names, table: func(w io.Writer) { survivorTable(w, found) }})
}

func survivorTable(w io.Writer, found []survivor) {
	rows := make([]table.Row, len(found))
	for i, s := range found {
		rows[i] = table.Row{s.Server, s.From, s.LastTerm, s.LastIndex, s.SnapshotIndex, len(s.Voters)}
	}
	writeTable(w, table.Row{"SERVER", "FROM", "LAST TERM", "LAST INDEX", "SNAPSHOT", "VOTERS KNOWN"}, rows)
}

// comparison says who has most, and how much less the others have.
func comparison(found []survivor, best survivor) string {
	var b strings.Builder
	survivorTable(&b, found)
	fmt.Fprintf(&b, "\nStart from %s (%s): its log is the newest, up to entry %d of term %d.", best.Server, best.From, best.LastIndex, best.LastTerm)
	for _, s := range found {
		if s.Server == best.Server {
			continue
		}
		if s.LastTerm == best.LastTerm {
			fmt.Fprintf(&b, " %s lacks %d entries of it.", s.Server, best.LastIndex-s.LastIndex)
		} else {
			fmt.Fprintf(&b, " %s ends in the older term %d.", s.Server, s.LastTerm)
		}
	}
	return b.String()
}

// choose is the survivor to start from; it refuses what would lose more than it
// must.
func choose(found []survivor, best survivor, force bool) (survivor, error) {
	refused := func(format string, args ...any) (survivor, error) {
		return survivor{}, &exitError{code: exitConflict, err: fmt.Errorf(format, args...)}
	}
	here := slices.DeleteFunc(slices.Clone(found), func(s survivor) bool { return s.dir == "" })
	if len(here) == 0 {
		return refused("nothing was done: no data directory is on this machine: run this where %s is", best.From)
	}
	chosen := slices.MaxFunc(here, func(x, y survivor) int { return x.compare(y) })
	if all, have := len(best.Voters), surviving(found, best); have > all/2 && !force {
		return refused("nothing was done: %d of %d voters survive, a majority: start them as they are and nothing is lost, then replace the others", have, all)
	}
	if chosen.compare(best) < 0 && !force {
		return refused("nothing was done: %s has more: run this on its machine", best.From)
	}
	return chosen, nil
}

// surviving counts the voters that are still there.
func surviving(found []survivor, best survivor) int {
	n := 0
	for _, v := range best.Voters {
		if slices.ContainsFunc(found, func(s survivor) bool { return s.Server == v.Server }) {
			n++
		}
	}
	return n
}

// consequence says in numbers what starting over means.
func consequence(found []survivor, chosen survivor) string {
	all, have := len(chosen.Voters), surviving(found, chosen)
	return fmt.Sprintf("%d of %d voters are lost; a commit needed %d. What was acknowledged and reached only lost ones is lost: it cannot be counted here, and is "+
		"what was committed after entry %d (term %d). What is in the log of %s up to that entry becomes true, also the end of it that may never have been acknowledged.\n"+
		"The cluster %s ends: a lost coordinator that comes back must not be started with its old data.",
		all-have, all, all/2+1, chosen.LastIndex, chosen.LastTerm, chosen.Server, chosen.Cluster)
}
