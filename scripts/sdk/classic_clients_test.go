//go:build clients

package sdk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass/protocol/client"
)

// The clients of the classic dialect, as their makers publish them.
const (
	runpodNode   = "runpod-sdk@1.1.2"
	runpodPython = "runpod==1.12.0"
)

// classicTime bounds one client's walk through all operations.
const classicTime = 5 * time.Minute

// TestClassicClients runs the unmodified clients of the dialect against real
// processes: on one node, and through a follower of three.
func TestClassicClients(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/classic")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"name":"app","private":true,"type":"module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", runpodNode)
	python := filepath.Join(dir, "venv", "bin", "python")
	run(t, dir, nil, "python3", "-m", "venv", "venv")
	run(t, dir, nil, python, "-m", "pip", "install", "-q", "--disable-pip-version-check", runpodPython)
	for name, options := range map[string][]string{"one node": nil, "through a follower": {"--coordinators", "3"}} {
		t.Run(name, func(t *testing.T) {
			d := startDev(t, options...)
			d.ask(t)
			d.settle(t)
			d.applyPython(t, "ep_classic", filepath.Join(dir, "handler.py"))
			base := d.addr + "/v2"
			d.walk(t, dir, []string{"BASE_URL=" + base}, "node", "client.mjs")
			d.walk(t, dir, []string{"RUNPOD_ENDPOINT_BASE_URL=" + base}, python, "client.py")
			d.pause(t, filepath.Join(dir, "pausing.py"))
		})
	}
}

// ask chooses the address that is asked: that of a coordinator that does not
// lead, where there are several.
func (d *dev) ask(t *testing.T) {
	t.Helper()
	addrs := strings.Split(d.addr, ",")
	for _, d.addr = range addrs {
		c := d.client(t)
		status, err := c.Cluster(t.Context(), false)
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(addrs) == 1 || !status.Leader {
			return
		}
	}
	t.Fatal("every coordinator leads")
}

// settle waits until all coordinators told that they support this version: the
// newest routes are refused before.
func (d *dev) settle(t *testing.T) {
	t.Helper()
	c := d.client(t)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.PurgeEndpoint(ctx, "ep_echo")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the cluster does not come to its newest feature level: %v", err)
		}
		<-tick.C
	}
}

func (d *dev) applyPython(t *testing.T, id, handler string) {
	t.Helper()
	d.apply(t, "kind: Endpoint\nid: "+id+"\nruntime: {kind: command, command: [python3, -u, "+handler+"]}\nresources: {cpu: true}\nmaxRunning: 1\n")
}

// walk runs one client's program and shows each operation as a test of its own.
func (d *dev) walk(t *testing.T, dir string, env []string, program, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), classicTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, script)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append(env, "API_KEY="+d.key)...)
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok {
			t.Run(strings.TrimPrefix(filepath.Ext(script), ".")+" "+name, func(*testing.T) {})
		}
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", script, err, failed.String())
	}
}

// pause stops a running job of a real handler at a checkpoint and lets it go on.
func (d *dev) pause(t *testing.T, handler string) {
	t.Helper()
	d.applyPython(t, "ep_pausing", handler)
	job := strings.TrimSpace(d.cli(t, "run", "ep_pausing", "steps=500", "-o", "name"))
	d.awaitProgress(t, job)
	d.cli(t, "job", "pause", job)
	if out := d.cli(t, "job", "status", job, "-o", "json"); !strings.Contains(out, `"status": "paused"`) {
		t.Fatalf("the job is not paused: %s", out)
	}
	d.cli(t, "job", "resume", job)
	out := d.cli(t, "job", "watch", job)
	if !strings.Contains(out, `"began":`) || strings.Contains(out, `"began":0}`) {
		t.Errorf("it did not go on from its checkpoint: %s", out)
	}
}

// awaitProgress waits until the job runs and is past its beginning.
func (d *dev) awaitProgress(t *testing.T, job string) {
	t.Helper()
	c := d.client(t)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), classicTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := c.Jobs(ctx, client.ListOptions{Status: []string{"running"}, Endpoint: "ep_pausing"})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Data) == 1 && page.Data[0].JobID.String() == job && page.Data[0].Progress != nil && *page.Data[0].Progress > 1 {
			return
		}
		<-tick.C
	}
}
