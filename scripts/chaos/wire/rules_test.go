package wire

import (
	"net/netip"
	"strings"
	"testing"
)

func TestRulesSayWhatIsBroken(t *testing.T) {
	var r rules
	r.of("10.77.1.12").cut = true
	r.of("10.77.1.11").loss = 0.1
	r.of("10.77.1.13").refuse = true
	f := flow{remote: netip.MustParseAddrPort("10.77.1.12:7401"), local: netip.MustParseAddrPort("10.77.1.11:40000")}
	r.silence(f.between("10.77.1.12", "10.77.1.11"))
	r.silence(f.between("10.77.1.12", "10.77.1.11")) // once is enough
	r.silence(f.between("10.77.1.13", "10.77.1.11")) // not between these
	want := []string{
		"ip saddr 10.77.1.12 tcp sport 7401 tcp dport 40000 counter drop",
		"ip saddr 10.77.1.11 numgen random mod 1000 < 100 counter drop",
		"ip saddr 10.77.1.12 counter drop",
		"ip saddr 10.77.1.13 meta l4proto tcp counter reject with tcp reset",
	}
	var got []string
	for line := range strings.Lines(r.text()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "ip saddr") {
			got = append(got, line)
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("the rules are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(r.text(), "table inet chaos\ndelete table inet chaos\n") {
		t.Fatal("the rules before stay")
	}
}

// TestFlowsAreSeenFromBothEnds: the other end's packets have the ports the other
// way round.
func TestFlowsAreSeenFromBothEnds(t *testing.T) {
	f, ok := parseFlow("   0: 0B014D0A:1CE9 0C014D0A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 26614 1 0000000000000000")
	if !ok {
		t.Fatal("an established connection was not read")
	}
	want := flow{local: netip.MustParseAddrPort("10.77.1.11:7401"), remote: netip.MustParseAddrPort("10.77.1.12:40000")}
	if f != want {
		t.Fatalf("read %v, want %v", f, want)
	}
	other, ok := f.between("10.77.1.11", "10.77.1.12")
	if !ok || other.remote != f.local || other.local != f.remote {
		t.Fatalf("seen from the other end it is %v", other)
	}
	for _, line := range []string{
		"  sl  local_address rem_address   st tx_queue rx_queue",
		"   1: 0B014D0A:1CE9 00000000:0000 0A 00000000:00000000", // listens
		"   2: 0B01:1CE9 0C014D0A:9C40 01",
		"",
	} {
		if f, ok := parseFlow(line); ok {
			t.Errorf("%q was read as %v", line, f)
		}
	}
}

func TestCountersAreSummed(t *testing.T) {
	const list = `table inet chaos {
	chain in {
		ip saddr 10.77.1.12 counter packets 40 bytes 2400 drop
		ip saddr 10.77.1.13 counter packets 2 bytes 80 drop
	}
}`
	if n := packets(list); n != 42 {
		t.Fatalf("%d packets, want 42", n)
	}
}
