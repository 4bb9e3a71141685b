package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent/shim"
	"windlass/protocol"
)

func entry(t *testing.T, dir string, attempt uint32) protocol.HeldAttempt {
	t.Helper()
	k := protocol.HeldAttempt{Job: protocol.NewJobID(time.Now()), Attempt: attempt}
	f := protocol.Finish{Job: k.Job, Attempt: k.Attempt, Outcome: protocol.OutcomeCompleted, Output: []byte(`1`)}
	if err := shim.WriteEntry(dir, shim.Entry{Ended: protocol.TimeOf(time.Now()), Finish: f}); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestJournalLoadsWhatIsWhole(t *testing.T) {
	j := &journal{dir: t.TempDir(), log: zerolog.Nop()}
	whole, old := entry(t, j.dir, 1), entry(t, j.dir, 2)
	now := time.Now()
	past := now.Add(-journalAge - time.Hour)
	if err := os.Chtimes(shim.EntryPath(j.dir, old), past, past); err != nil {
		t.Fatal(err)
	}
	// A crash before the rename leaves a temporary file; a foreign file is not ours to touch.
	torn, foreign := filepath.Join(j.dir, ".tmp-1"), filepath.Join(j.dir, "README")
	for _, p := range []string{torn, foreign} {
		if err := os.WriteFile(p, []byte(`{"finish"`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(torn, past, past); err != nil {
		t.Fatal(err)
	}
	keys, err := j.load(now)
	if err != nil || len(keys) != 1 || keys[0] != whole {
		t.Fatalf("loaded %v, %v", keys, err)
	}
	left, err := os.ReadDir(j.dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestJournalDamageIsFoundNotServed(t *testing.T) {
	j := &journal{dir: t.TempDir(), log: zerolog.Nop()}
	k := entry(t, j.dir, 3)
	path := shim.EntryPath(j.dir, k)
	if err := os.Truncate(path, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := shim.ReadEntry(j.dir, k); err == nil {
		t.Fatal("half an entry was read")
	}
	if err := j.quarantine(k); err != nil {
		t.Fatal(err)
	}
	if keys, err := j.load(time.Now()); err != nil || len(keys) != 0 {
		t.Errorf("loaded %v, %v", keys, err)
	}
}

func TestRenumberedEntryHasOneFile(t *testing.T) {
	dir := t.TempDir()
	from := entry(t, dir, 1)
	to := protocol.HeldAttempt{Job: from.Job, Attempt: 4}
	if err := shim.RenumberEntry(dir, from, to); err != nil {
		t.Fatal(err)
	}
	if e, err := shim.ReadEntry(dir, to); err != nil || e.Finish.Attempt != 4 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := shim.ReadEntry(dir, from); err == nil {
		t.Error("the old number is still there")
	}
}

func TestPermit(t *testing.T) {
	c := Config{Runtimes: RuntimesConfig{Allow: []AllowRule{
		{Kind: "builtin"}, {Kind: "command", Commands: []string{"/bin/sh", "/srv/handlers/"}},
	}}}
	for _, ok := range [][]string{{"builtin"}, {"command", "/bin/sh"}, {"command", "/srv/handlers/a"}, {"command", "/bin/../bin/sh"}} {
		if err := c.permit(ok[0], ok[1:]); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]string{{"http"}, {"command"}, {"command", "/bin/bash"}, {"command", "/srv/handlers/../x"}, {"command", "no-such-program"}} {
		if err := c.permit(bad[0], bad[1:]); err == nil {
			t.Errorf("%v is permitted", bad)
		}
	}
}

func TestEnvironmentIsAllowListed(t *testing.T) {
	t.Setenv("WINDLASS_API_KEY", "agent secret")
	t.Setenv("MODEL_TOKEN", "for the runtime")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := resolveEnv(map[string]protocol.EnvValue{
		"A": {Literal: "1"}, "B": {FromFile: file}, "C": {FromEnv: "MODEL_TOKEN"},
	})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(env, "\n") + "\n"
	for _, want := range []string{"A=1\n", "B=from file\n", "C=for the runtime\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("environment lacks %q", want)
		}
	}
	if strings.Contains(all, "agent secret") {
		t.Error("the agent's own secret reaches the runtime")
	}
	for _, v := range []protocol.EnvValue{{FromFile: file + "x"}, {FromEnv: "NOT_SET_ANYWHERE"}} {
		if _, err := resolveEnv(map[string]protocol.EnvValue{"D": v}); err == nil {
			t.Errorf("%+v was resolved", v)
		}
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	c := Config{Slots: -1, GPU: GPUConfig{Mode: "maybe"}, HTTP: HTTPConfig{Listen: "nowhere"}}
	c.Runtimes.Allow = []AllowRule{{}, {Kind: "command", Commands: []string{"sh"}}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"name", "data", "slots", "gpu.mode", "http.listen", "allow[0]", "allow[1]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}
