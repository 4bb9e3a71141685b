package wire

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// rules are what packets meet where they come in, by the sender's address.
type rules struct {
	senders map[string]*sender
	silent  []flow
}

type sender struct {
	cut, refuse bool
	loss        float64
}

// flow is a TCP connection as its incoming packets show it.
type flow struct{ remote, local netip.AddrPort }

// between is the flow as its packets come from one address to another; ok: it
// is between these two.
func (f flow) between(from, to string) (_ flow, ok bool) {
	remote, local := f.remote.Addr().String(), f.local.Addr().String()
	switch {
	case remote == from && local == to:
		return f, true
	case remote == to && local == from:
		return flow{remote: f.local, local: f.remote}, true
	}
	return f, false
}

func (r *rules) of(addr string) *sender {
	if r.senders == nil {
		r.senders = make(map[string]*sender)
	}
	s := r.senders[addr]
	if s == nil {
		s = &sender{}
		r.senders[addr] = s
	}
	return s
}

func (r *rules) silence(f flow, concerned bool) {
	if concerned && !slices.Contains(r.silent, f) {
		r.silent = append(r.silent, f)
	}
}

func (r *rules) none() bool { return len(r.senders) == 0 && len(r.silent) == 0 }

// perMille is what a share of the packets is counted in.
const perMille = 1000

// text is the whole table for nft: it replaces the one before at once.
func (r *rules) text() string {
	var b strings.Builder
	b.WriteString("table inet chaos\ndelete table inet chaos\ntable inet chaos {\n chain in {\n  type filter hook input priority 0; policy accept;\n")
	for _, f := range r.silent {
		fmt.Fprintf(&b, "  ip saddr %s tcp sport %d tcp dport %d counter drop\n", f.remote.Addr(), f.remote.Port(), f.local.Port())
	}
	var addrs []string
	for addr := range r.senders {
		addrs = append(addrs, addr)
	}
	slices.Sort(addrs)
	for _, addr := range addrs {
		s := r.senders[addr]
		if s.cut {
			fmt.Fprintf(&b, "  ip saddr %s counter drop\n", addr)
		}
		if s.loss > 0 {
			fmt.Fprintf(&b, "  ip saddr %s numgen random mod %d < %d counter drop\n", addr, perMille, int(s.loss*perMille))
		}
		if s.refuse {
			fmt.Fprintf(&b, "  ip saddr %s meta l4proto tcp counter reject with tcp reset\n", addr)
		}
	}
	b.WriteString(" }\n}\n")
	return b.String()
}

// packets sums the counters in what nft lists.
func packets(list string) (n int64) {
	words := strings.Fields(list)
	for i := 0; i+2 < len(words); i++ {
		if words[i] == "counter" && words[i+1] == "packets" {
			c, _ := strconv.ParseInt(words[i+2], 10, 64)
			n += c
		}
	}
	return n
}

// flows are the TCP connections of a namespace to others.
func (s *space) flows() (out []flow, err error) {
	err = s.enter(func() error {
		f, err := os.Open("/proc/thread-self/net/tcp")
		if err != nil {
			return err
		}
		defer f.Close()
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			if f, ok := parseFlow(scan.Text()); ok {
				out = append(out, f)
			}
		}
		return scan.Err()
	})
	return out, err
}

// parseFlow reads a line of /proc/net/tcp: number, local and remote address in
// the byte order of this machine, state.
func parseFlow(line string) (flow, bool) {
	const established = "01"
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != established {
		return flow{}, false
	}
	local, lok := parseAddr(f[1])
	remote, rok := parseAddr(f[2])
	return flow{remote: remote, local: local}, lok && rok
}

func parseAddr(text string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(text, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	h, err := hex.DecodeString(host)
	if err != nil || len(h) != 4 {
		return netip.AddrPort{}, false
	}
	p, err := hex.DecodeString(port)
	if err != nil || len(p) != 2 {
		return netip.AddrPort{}, false
	}
	var addr [4]byte
	binary.NativeEndian.PutUint32(addr[:], binary.BigEndian.Uint32(h))
	return netip.AddrPortFrom(netip.AddrFrom4(addr), binary.BigEndian.Uint16(p)), true
}
