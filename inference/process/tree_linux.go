package process

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// stat is what /proc/<pid>/stat tells of a process.
type stat struct {
	pid, ppid, pgrp, session int
	start                    uint64
	zombie                   bool
}

func startProcess(path string, argv []string, attr *os.ProcAttr, group *cgroup) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if group != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(group.dir.Fd())
		proc, err := os.StartProcess(path, argv, attr)
		if err == nil {
			return proc, nil
		}
		// A kernel or a container may refuse the group; the mark still finds the tree.
		attr.Sys.UseCgroupFD = false
	}
	return os.StartProcess(path, argv, attr)
}

// PIDs lists the live processes of the tree: of the cgroup and the session, the
// descendants, and those that carry the mark.
func (p *Process) PIDs() []int { return p.live() }

func (p *Process) live() []int {
	return tree(p.pid, p.started, p.id, p.group.pids())
}

// Marked lists the live processes whose environment carries the mark id, so that
// what a dead supervisor left can be ended.
func Marked(id string) []int { return tree(0, 0, id, nil) }

func tree(root int, since uint64, id string, known []int) []int {
	self := os.Getpid()
	procs := processes(since)
	in := make(map[int]bool, len(known))
	for _, pid := range known {
		in[pid] = true
	}
	for grown := true; grown; { // children may be listed before their parents
		grown = false
		for _, s := range procs {
			if !in[s.pid] && s.pid != self && (root != 0 && (s.pid == root || s.session == root || s.pgrp == root) || in[s.ppid]) {
				in[s.pid], grown = true, true
			}
		}
	}
	var out []int
	for _, s := range procs {
		if s.pid != self && !s.zombie && (in[s.pid] || marked(s.pid, id)) {
			out = append(out, s.pid)
		}
	}
	slices.Sort(out)
	return out
}

// processes lists all processes that started at since or later.
func processes(since uint64) []stat {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	var out []stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok && s.start >= since {
			out = append(out, s)
		}
	}
	return out
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(pid, b)
}

// parseStat reads the line; the name in parentheses may hold anything, so the
// fields are counted from the last parenthesis.
func parseStat(pid int, b []byte) (stat, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, false
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 {
		return stat{}, false
	}
	num := func(n int) int { v, _ := strconv.Atoi(string(f[n])); return v }
	start, err := strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return stat{}, false
	}
	return stat{
		pid: pid, ppid: num(1), pgrp: num(2), session: num(3), start: start,
		zombie: f[0][0] == 'Z' || f[0][0] == 'X',
	}, true
}

func startTime(pid int) uint64 {
	s, _ := readStat(pid)
	return s.start
}

func marked(pid int, id string) bool {
	if id == "" {
		return false
	}
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	mark := []byte(MarkVariable + "=" + id)
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(kv, mark) {
			return true
		}
	}
	return false
}
