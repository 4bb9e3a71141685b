package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lostQuorum is a cluster of three of which some directories are left.
func lostQuorum(change func(found []survivor) []survivor) []survivor {
	voters := []survivorVoter{{"srv_a", "a:7401"}, {"srv_b", "b:7401"}, {"srv_c", "c:7401"}, {"srv_d", "d:7401"}, {"srv_e", "e:7401"}}
	return change([]survivor{
		{From: "here", dir: "here", Server: "srv_a", Cluster: "cluster_x", LastTerm: 4, LastIndex: 100, Voters: voters},
		{From: "b.json", Server: "srv_b", Cluster: "cluster_x", LastTerm: 4, LastIndex: 90, Voters: voters},
	})
}

func TestRecoverStartsFromWhoeverHasMost(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]survivor) []survivor
		force  bool
		want   string // the server, or "" for a refusal
		says   string
	}{
		"here has more":        {func(f []survivor) []survivor { return f }, false, "srv_a", "srv_b lacks 10 entries"},
		"longer log":           {func(f []survivor) []survivor { f[1].LastIndex = 101; return f }, false, "", "b.json has more"},
		"newer term beats":     {func(f []survivor) []survivor { f[1].LastTerm, f[1].LastIndex = 5, 7; return f }, false, "", "b.json has more"},
		"older term, longer":   {func(f []survivor) []survivor { f[1].LastTerm, f[1].LastIndex = 3, 700; return f }, false, "srv_a", "ends in the older term 3"},
		"forced":               {func(f []survivor) []survivor { f[1].LastIndex = 101; return f }, true, "srv_a", ""},
		"majority":             {func(f []survivor) []survivor { f[0].Voters = f[0].Voters[:3]; return f }, false, "", "2 of 3 voters survive, a majority"},
		"no directory here":    {func(f []survivor) []survivor { f[0].dir = ""; return f }, false, "", "no data directory is on this machine"},
		"stranger is no voter": {func(f []survivor) []survivor { f[0].Voters = f[0].Voters[1:4]; return f[:1] }, false, "srv_a", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := lostQuorum(c.change)
			best := found[0]
			for _, s := range found {
				if s.compare(best) > 0 {
					best = s
				}
			}
			text := comparison(found, best)
			chosen, err := choose(found, best, c.force)
			if err != nil {
				text += err.Error()
			}
			if chosen.Server != c.want || !strings.Contains(text, c.says) {
				t.Errorf("chose %q: %s", chosen.Server, text)
			}
		})
	}
	found := lostQuorum(func(f []survivor) []survivor { return f })
	if text := consequence(found, found[0]); !strings.Contains(text, "3 of 5 voters are lost; a commit needed 3") || !strings.Contains(text, "after entry 100") {
		t.Error(text)
	}
}

func TestSurveysOfOtherMachinesAreChecked(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	found := lostQuorum(func(f []survivor) []survivor { return f })
	a, b := write("a.json", found[:1]), write("b.json", found[1:])
	got, err := readSurvivors([]string{a, b})
	if err != nil || len(got) != 2 || got[1].LastIndex != 90 || got[1].From != b || got[0].dir != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	found[1].Cluster = "cluster_y"
	other := write("other.json", found[1:])
	empty := write("empty.json", []survivor{{Server: "srv_z"}})
	for want, files := range map[string][]string{
		"named twice": {a, a}, "survivors of one cluster": {a, other}, "nothing to recover": {empty},
		"--survey -o json": {write("bad.json", "x")}, "no data directory": {dir}, "cannot read": {filepath.Join(dir, "none")},
	} {
		if _, err := readSurvivors(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", files, err)
		}
	}
}
