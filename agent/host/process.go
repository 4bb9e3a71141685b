package host

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// Root is where the kernel mounts procfs.
const Root = "/proc"

// Identity names one process for ever: a pid alone is reused, a pid with its
// start time is not within one boot (agent.md 6.4).
type Identity struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // field 22 of /proc/PID/stat, in clock ticks since boot
	BootID string `json:"bootId"`
}

// Identify reads the identity of a live process.
func Identify(pid int) (Identity, error) {
	st, err := readStat(Root, pid)
	if err != nil {
		return Identity{}, fmt.Errorf("cannot identify process %d: %w", pid, err)
	}
	boot, err := BootID()
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: st.Starttime, BootID: boot}, nil
}

// BootID reads the kernel's random id of this boot.
func BootID() (string, error) {
	b, err := os.ReadFile(filepath.Join(Root, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("cannot read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Alive reports whether the very same process still runs; a zombie does not.
func (id Identity) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	boot, err := BootID()
	if err != nil || boot != id.BootID {
		return false
	}
	st, err := readStat(Root, id.PID)
	return err == nil && st.Starttime == id.Start && st.State != "Z" && st.State != "X"
}

// Processes is one reading of the process table.
type Processes struct {
	stats map[int]procfs.ProcStat
	kids  map[int][]int
}

// ReadProcesses reads the process table below root. Processes that end while it
// reads are left out.
func ReadProcesses(root string) (*Processes, error) {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open procfs %s: %w", root, err)
	}
	all, err := fs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("cannot list processes: %w", err)
	}
	p := &Processes{stats: make(map[int]procfs.ProcStat, len(all)), kids: make(map[int][]int)}
	for _, proc := range all {
		st, err := proc.Stat()
		if err != nil {
			continue
		}
		p.stats[proc.PID] = st
		p.kids[st.PPID] = append(p.kids[st.PPID], proc.PID)
	}
	return p, nil
}

// Tree returns the live members of pids and all their descendants, ascending.
func (p *Processes) Tree(pids ...int) []int {
	seen := make(map[int]bool)
	todo := slices.Clone(pids)
	for len(todo) > 0 {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := p.stats[pid]; !ok || seen[pid] {
			continue
		}
		seen[pid] = true
		todo = append(todo, p.kids[pid]...)
	}
	out := make([]int, 0, len(seen))
	for pid := range seen {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}

// Zombies returns the direct children of parent that ended and were not waited for.
func (p *Processes) Zombies(parent int) []int {
	var out []int
	for _, pid := range p.kids[parent] {
		if p.stats[pid].State == "Z" {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// Running returns those of pids that are not zombies.
func (p *Processes) Running(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		st, ok := p.stats[pid]
		return !ok || st.State == "Z" || st.State == "X"
	})
}

// Session returns the processes whose session id is sid, ascending.
func (p *Processes) Session(sid int) []int {
	var out []int
	for pid, st := range p.stats {
		if st.Session == sid {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out
}

// Marked returns the processes whose environment holds key with a value that
// match accepts. It finds what left its process group, its session and its parent.
// Processes of other users cannot be read and are left out.
func Marked(root, key string, match func(value string) bool) []int {
	dirs, err := os.ReadDir(root)
	if err != nil {
		return nil
	}
	var out []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile(filepath.Join(root, d.Name(), "environ"))
		if err != nil {
			continue
		}
		if v, ok := lookupEnv(env, key); ok && match(v) {
			out = append(out, pid)
		}
	}
	return out
}

func lookupEnv(env []byte, key string) (string, bool) {
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		k, v, ok := bytes.Cut(kv, []byte{'='})
		if ok && string(k) == key {
			return string(v), true
		}
	}
	return "", false
}

func readStat(root string, pid int) (procfs.ProcStat, error) {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	p, err := fs.Proc(pid)
	if err != nil {
		return procfs.ProcStat{}, err
	}
	return p.Stat()
}
