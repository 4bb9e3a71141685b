package api

import (
	"fmt"
	"strings"
	"time"

	"windlass/protocol"
)

const (
	// farBehind is the entries that a voter may lack and still count as up to
	// date: a second of a busy log.
	farBehind = 1000

	// clockWarn is the offset of a clock that an operator should hear of; a
	// coordinator 5 s from the median does not lead (DESIGN 3.6).
	clockWarn = 1000
)

// assess fills what follows from the members: whether the cluster is healthy,
// how many voters may fail now, and what is wrong.
func assess(doc *protocol.ClusterMembers) {
	doc.Findings, doc.Healthy = []string{}, true
	wrong := func(format string, args ...any) {
		doc.Findings, doc.Healthy = append(doc.Findings, fmt.Sprintf(format, args...)), false
	}
	voters, alive, newest, leader := 0, 0, uint64(0), false
	for _, m := range doc.Members {
		newest = max(newest, m.LastIndex)
		leader = leader || m.Role == protocol.RoleLeader
	}
	for _, m := range doc.Members {
		votes := m.Role == protocol.RoleLeader || m.Role == protocol.RoleVoter
		if votes {
			voters++
		}
		if votes && m.Reachable {
			alive++
		}
		switch {
		case m.Server == "":
			wrong("nobody has answered at %s yet: start the coordinator there, or correct join", m.Address)
		case !m.Reachable:
			wrong("%s at %s does not answer: start it, or replace it and remove it (`windlass cluster remove %s`)", m.Server, m.Address, m.Server)
		case m.Role == protocol.RoleWaiting:
			wrong("%s at %s is in no cluster yet: its log says what it waits for", m.Server, m.Address)
		case m.Role == protocol.RoleLearner && m.Payloads != nil && m.Payloads.Missing > 0:
			wrong("%s at %s does not vote yet: %s", m.Server, m.Address, copying(m.Payloads))
		case m.Role == protocol.RoleLearner:
			wrong("%s at %s does not vote yet: it is catching up (%d of %d entries)", m.Server, m.Address, m.LastIndex, newest)
		case m.Applied+farBehind < newest:
			wrong("%s at %s is %d entries behind", m.Server, m.Address, newest-m.Applied)
		}
	}
	for _, m := range doc.Members {
		if p := m.Payloads; p != nil && p.Nowhere > 0 { // waiting does not help: it is no reason to count as unhealthy
			doc.Findings = append(doc.Findings, fmt.Sprintf("%d payloads that %s looks for are on no coordinator that answers (%s...): start the coordinator that has them; without it they are lost, and the jobs that name them must be submitted again",
				p.Nowhere, m.Server, strings.Join(p.Names, "..., ")))
		}
	}
	if !leader {
		wrong("no leader is known: start more coordinators; if a majority is lost for good, use `windlass cluster recover`")
	}
	if voters < doc.Expect {
		wrong("%d of %d coordinators vote: start the others with the same join addresses", voters, doc.Expect)
	}
	doc.Tolerates = max(0, alive-(voters/2+1))
	compare(doc, wrong)
}

// stuckAfter is when copies that do not go on need a person: longer than the
// pause before a coordinator asks again for what it did not get.
const stuckAfter = 6 * time.Minute

// copying says what keeps a coordinator whose payloads are not complete.
func copying(p *protocol.ClusterPayloads) string {
	idle := time.Duration(p.IdleMs) * time.Millisecond
	text := fmt.Sprintf("%d payloads are not copied to it yet, the newest came %s ago", p.Missing, idle.Round(time.Second))
	if p.Trouble != "" {
		text += " (" + p.Trouble + ")"
	}
	if idle < stuckAfter {
		return text
	}
	return text + ": start the coordinators that have them, make room on its disk, or remove for good a coordinator that will not come back (`windlass cluster remove`)"
}

// compare finds what differs between members and must not, and what may for a
// while.
func compare(doc *protocol.ClusterMembers, wrong func(string, ...any)) {
	// Digests say with which encoding they were made, and tell something about the
	// states only beside others of the same: an upgrade mixes encodings.
	type at struct {
		index    uint64
		encoding string
	}
	digests, versions := map[at]string{}, map[string]bool{}
	for _, m := range doc.Members {
		if m.ClockOffsetMs > clockWarn || m.ClockOffsetMs < -clockWarn {
			doc.Findings = append(doc.Findings, fmt.Sprintf("the clock of %s is %d ms off: synchronise it (chrony, systemd-timesyncd)", m.Server, m.ClockOffsetMs))
		}
		if m.Version != "" {
			versions[m.Version] = true
		}
		if m.Checkpoint == nil {
			continue
		}
		encoding, _, _ := strings.Cut(m.Checkpoint.Digest, ":")
		key := at{m.Checkpoint.Index, encoding}
		if d, ok := digests[key]; ok && d != m.Checkpoint.Digest {
			wrong("states differ at index %d, also at %s: save a snapshot of each coordinator before anything else, then report it", m.Checkpoint.Index, m.Server)
		}
		digests[key] = m.Checkpoint.Digest
	}
	if len(versions) > 1 {
		doc.Findings = append(doc.Findings, "versions differ: finish the upgrade")
	}
}
