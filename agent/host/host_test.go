package host

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// busyEnv turns the test binary into a process that burns a told amount of
// processor time and then waits for its stdin to close.
const busyEnv = "HOST_TEST_BUSY"

func TestMain(m *testing.M) {
	if os.Getenv(busyEnv) == "" {
		os.Exit(m.Run())
	}
	start, x := time.Now(), 0
	for time.Since(start) < 100*time.Millisecond {
		x++
	}
	fmt.Println("burnt", x)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func stat(pid, ppid, session int, state string, utime, rss int) string {
	return fmt.Sprintf("%d (a b) c) %s %d %d %d 0 -1 0 0 0 0 0 %d 0 0 0 20 0 1 0 %d 1000 %d "+
		"18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n", pid, state, ppid, session, session, utime, pid*10, rss)
}

func fakeProc(t *testing.T, stats map[int]string) string {
	t.Helper()
	root := t.TempDir()
	for pid, s := range stats {
		dir := filepath.Join(root, fmt.Sprint(pid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "stat"), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	mem := "MemTotal: 4096 kB\nMemFree: 1024 kB\nMemAvailable: 2048 kB\n"
	if err := os.WriteFile(filepath.Join(root, "meminfo"), []byte(mem), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func rewrite(t *testing.T, root string, pid int, s string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, fmt.Sprint(pid), "stat"), []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTreeFollowsParents(t *testing.T) {
	root := fakeProc(t, map[int]string{
		10: stat(10, 1, 10, "S", 0, 1), 11: stat(11, 10, 10, "Z", 0, 1), 12: stat(12, 10, 12, "R", 0, 1),
		13: stat(13, 12, 12, "S", 0, 1), 20: stat(20, 1, 20, "R", 0, 1),
	})
	p, err := ReadProcesses(root)
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string][]int{
		"[10 11 12 13]": p.Tree(10), "[10 12 13]": p.Running(p.Tree(10)), "[11]": p.Zombies(10),
		"[12 13]": p.Session(12), "[20]": p.Tree(20, 99),
	} {
		if fmt.Sprint(got) != what {
			t.Errorf("got %v, want %s", got, what)
		}
	}
}

func TestMeterIgnoresNeighboursAndSplits(t *testing.T) {
	root := fakeProc(t, map[int]string{10: stat(10, 1, 10, "S", 100, 50), 20: stat(20, 1, 20, "R", 0, 900)})
	m := NewMeter(root)
	m.cores = 2
	now := time.Unix(1000, 0)
	m.Begin("a", []int{10}, now)
	rewrite(t, root, 10, stat(10, 1, 10, "S", 150, 60))
	rewrite(t, root, 20, stat(20, 1, 20, "R", 100000, 900))
	m.Begin("b", []int{10}, now.Add(time.Second)) // 0.5 s belong to a alone
	rewrite(t, root, 10, stat(10, 1, 10, "S", 250, 40))
	b, ok := m.End("b", []int{10}, now.Add(2*time.Second))
	a, okA := m.End("a", []int{10}, now.Add(2*time.Second))
	if !ok || !okA {
		t.Fatal("a reading is missing")
	}
	if a.CPUMs != 1000 || b.CPUMs != 500 {
		t.Errorf("processor time a %d ms, b %d ms; want 1000 and 500", a.CPUMs, b.CPUMs)
	}
	if a.PeakMemory != 60*int64(os.Getpagesize()) || a.HostMemory != 4096*1024 {
		t.Errorf("memory %+v", a)
	}
	if b.CPUPercent != 25 {
		t.Errorf("b used %v%% of two cores, want 25", b.CPUPercent)
	}
}

func TestMeterOfRealProcess(t *testing.T) {
	quiet, stopQuiet := burn(t, "")
	m := NewMeter(Root)
	m.Begin("job", []int{quiet}, time.Now())
	_, stopNeighbour := burn(t, "") // burns while the job idles
	u, ok := m.End("job", []int{quiet}, time.Now())
	stopNeighbour()
	stopQuiet()
	if !ok || u.PeakMemory == 0 {
		t.Fatalf("no reading: %+v", u)
	}
	if u.CPUMs > 20 {
		t.Errorf("an idle job was charged %d ms of its neighbour", u.CPUMs)
	}
}

func TestIdentitySurvivesNeitherExitNorReuse(t *testing.T) {
	pid, stop := burn(t, "")
	id, err := Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("a live process counts as dead")
	}
	reused := id
	reused.Start++
	if reused.Alive() {
		t.Error("another start time counts as the same process")
	}
	stop()
	if id.Alive() {
		t.Error("a dead process counts as alive")
	}
}

func TestMarkedFindsEnvironment(t *testing.T) {
	pid, stop := burn(t, "HOST_TEST_MARK=x.1")
	defer stop()
	got := Marked(Root, "HOST_TEST_MARK", func(v string) bool { return v == "x.1" })
	if len(got) != 1 || got[0] != pid {
		t.Errorf("found %v, want [%d]", got, pid)
	}
}

func TestSamplerReadsThisHost(t *testing.T) {
	s, err := NewSampler(Root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	if h.MemoryTotal <= 0 || h.MemoryUsed <= 0 || h.Cores <= 0 || h.DiskFree <= 0 || h.CPUPercent > 100 {
		t.Errorf("implausible sample %+v", h)
	}
}

// burn starts a process that has already burnt its time when burn returns.
func burn(t *testing.T, env string) (int, func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), busyEnv+"=1", env)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid, func() { _ = in.Close(); _ = c.Wait() }
}
