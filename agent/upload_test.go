package agent_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent"
	"windlass/agent/agenttest"
	"windlass/agent/shim"
	"windlass/protocol"
)

func TestFilesOfAJobAreUploaded(t *testing.T) {
	f := setup(t)
	f.run(t)
	j := f.await(t, f.coord.Submit("ep_test", `"files"`), "result", finished)
	var got []string
	for _, file := range j.Finish.Files {
		got = append(got, file.Name+"="+string(f.coord.Blob(file.SHA256)))
	}
	if !slices.Equal(got, []string{"a.txt=one\n", "b.txt=two\n"}) || string(j.Finish.Output) != `{"ok":true}` {
		t.Errorf("%q %s", got, j.Finish.Output)
	}
	grants := f.coord.Grants()
	if len(grants) != 1 || grants[0].Job != grants[0].Job || grants[0].Attempt != 1 || len(grants[0].Files) != 2 || grants[0].Output != nil {
		t.Errorf("%+v", grants)
	}
	f.await(t, f.coord.Submit("ep_test", `{}`), "result without files", finished)
	if n := len(f.coord.Grants()); n != 1 {
		t.Errorf("%d grants were asked for", n)
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// bench is an agent in virtual time whose journal has what a shim wrote.
type bench struct {
	*agenttest.Coordinator
	t       *testing.T
	journal string
	data    string
}

func onBench(t *testing.T, play func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Coordinator: agenttest.New(), t: t, data: t.TempDir()}
		b.journal = filepath.Join(b.data, "agent", "journal")
		if err := os.MkdirAll(b.journal, 0o700); err != nil {
			t.Fatal(err)
		}
		b.PutEndpoint(protocol.Endpoint{ID: "ep_x", Revision: 1, Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{"/bin/false"}}})
		play(t, b)
	})
}

// ended writes the result of a leased attempt with one file of the given content.
func (b *bench) ended(content string, change func(*shim.Entry)) protocol.JobID {
	b.t.Helper()
	id := b.Submit("ep_x", `{}`)
	e := shim.Entry{Ended: protocol.TimeOf(time.Now()), Files: id.String() + ".1", Finish: protocol.Finish{
		Job: id, Attempt: 1, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`1`),
		Files: []protocol.OutputFile{{Name: "a.txt", Size: int64(len(content)), SHA256: digest(content)}},
	}}
	if change != nil {
		change(&e)
	}
	b.write(e.Files, content)
	if err := shim.WriteEntry(b.journal, e); err != nil {
		b.t.Fatal(err)
	}
	b.Edit(id, func(j *agenttest.Job) { j.Attempt, j.Leased, j.Acked = 1, true, true })
	return id
}

func (b *bench) write(run, content string) {
	b.t.Helper()
	dir := shim.FilesDir(b.journal, run)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0"), []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// start runs an agent until the function that it returns is called.
func (b *bench) start() (stop func()) {
	b.t.Helper()
	a, err := agent.New(config(b.data), deps(b.Coordinator, zerolog.Nop()))
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
}

func (b *bench) left() []string {
	b.t.Helper()
	found, err := filepath.Glob(filepath.Join(b.journal, "files", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(b.journal, "job_*"))
	if err != nil {
		b.t.Fatal(err)
	}
	return append(found, entries...)
}

// TestUploadsOutliveTheAgent: the files are the journal's until the result is
// answered, whoever dies meanwhile.
func TestUploadsOutliveTheAgent(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		id := b.ended("one", nil)
		b.SetFault(func(call string) agenttest.Fault { return agenttest.Fault{LoseRequest: call == "report"} })
		stop := b.start()
		pass(time.Minute)
		stop()
		b.Collect() // nobody named it yet
		if n := len(b.left()); n != 2 {
			t.Fatalf("%d things are left in the journal", n)
		}
		b.SetFault(nil)
		stop = b.start()
		j, err := b.Await(t.Context(), id, finished)
		if err != nil || len(j.Finish.Files) != 1 || string(b.Blob(j.Finish.Files[0].SHA256)) != "one" {
			t.Errorf("%+v %v", j, err)
		}
		pass(time.Minute)
		if left := b.left(); len(left) != 0 {
			t.Errorf("left in the journal: %v", left)
		}
		stop()
	})
}

// TestOverTheQuota: the job fails with the numbers, and nothing was sent.
func TestOverTheQuota(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.SetQuota(2)
		id := b.ended("one", nil)
		stop := b.start()
		j, err := b.Await(t.Context(), id, finished)
		if err != nil || j.Finish.Outcome != protocol.OutcomeFailed || j.Finish.Error.Code != protocol.CodeStorageLimit || j.Finish.Retryable ||
			j.Finish.Error.Details["remainingQuota"] != "2B" || j.Finish.Files != nil || j.Finish.Output != nil || b.Blob(digest("one")) != nil {
			t.Errorf("%+v %v", j.Finish, err)
		}
		pass(time.Minute)
		if left := b.left(); len(left) != 0 {
			t.Errorf("left in the journal: %v", left)
		}
		stop()
	})
}

func TestDamagedFileFailsTheJob(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		short := b.ended("one", func(e *shim.Entry) { e.Finish.Files[0].Size = 99 })
		gone := b.ended("two", func(e *shim.Entry) { e.Finish.Files[0].SHA256 = digest("other") })
		stop := b.start()
		for _, id := range []protocol.JobID{short, gone} {
			j, err := b.Await(t.Context(), id, finished)
			if err != nil || j.Finish.Outcome != protocol.OutcomeFailed || j.Finish.Error == nil || j.Finish.Files != nil {
				t.Errorf("%+v %v", j.Finish, err)
			}
		}
		stop()
	})
}

func TestFilesWithoutAResultAreSwept(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		b.SetFault(func(string) agenttest.Fault { return agenttest.Fault{LoseRequest: true} })
		id := b.ended("one", nil)
		b.write("job_old.1", "old")
		b.write("job_new.1", "new")
		old := time.Now().Add(-25 * time.Hour)
		for _, name := range []string{"job_old.1", id.String() + ".1"} {
			if err := os.Chtimes(shim.FilesDir(b.journal, name), old, old); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(shim.FilesDir(b.journal, "job_new.1"), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		stop := b.start()
		pass(time.Second)
		left := strings.Join(b.left(), " ")
		if strings.Contains(left, "job_old") || !strings.Contains(left, "job_new") || !strings.Contains(left, "files/"+id.String()) {
			t.Errorf("left in the journal: %s", left)
		}
		stop()
	})
}
