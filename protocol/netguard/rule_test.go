package netguard

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// denied are addresses that the zero rule refuses: the 24 forms that the review of
// such attacks lists, as far as they are addresses, and their neighbours.
func denied() []string {
	return []string{
		"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "0.1.2.3", "::",
		"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254",
		"fd00:ec2::254", "fc00::1", "fe80::1", "fe80::1%lo", "fec0::1", "100.100.100.200", "100.64.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
		"2002:7f00:1::", "::127.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1",
		"239.255.255.250", "240.0.0.1", "255.255.255.255", "ff02::1", "2001::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1",
	}
}

func TestSpecialAddressesAreDenied(t *testing.T) {
	var rule Rule
	for _, s := range denied() {
		addr := netip.MustParseAddr(s)
		err := rule.Check(netip.AddrPortFrom(addr, 443))
		var d *Denied
		if !errors.As(err, &d) || d.Reason == "" {
			t.Errorf("%s may be reached: %v", s, err)
		}
	}
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "::ffff:1.1.1.1", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860:4860::8888"} {
		if err := rule.Check(netip.AddrPortFrom(netip.MustParseAddr(s), 443)); err != nil {
			t.Errorf("%s is public: %v", s, err)
		}
	}
}

func TestPorts(t *testing.T) {
	public := netip.MustParseAddr("1.1.1.1")
	for _, c := range []struct {
		rule Rule
		port uint16
		ok   bool
	}{
		{Rule{}, 443, true}, {Rule{}, 80, false}, {Rule{}, 22, false},
		{Rule{Ports: []uint16{443, 80}}, 80, true}, {Rule{Ports: []uint16{8443}}, 443, false},
	} {
		if err := c.rule.Check(netip.AddrPortFrom(public, c.port)); (err == nil) != c.ok {
			t.Errorf("%+v and port %d: %v", c.rule, c.port, err)
		}
	}
}

func TestAllowedNetworks(t *testing.T) {
	allow, err := ParseNetworks([]string{"127.0.0.0/8", "10.1.2.3", "::1", "::ffff:192.168.0.0/112"})
	if err != nil {
		t.Fatal(err)
	}
	rule := Rule{Allow: allow}
	for s, ok := range map[string]bool{
		"127.0.0.1:9": true, "[::1]:9": true, "10.1.2.3:80": true, "10.1.2.4:80": false, "192.168.7.7:1": true, "192.169.0.1:1": false,
		"[::ffff:127.0.0.1]:1": true, "[fe80::1%lo]:443": false,
	} {
		if err := rule.Check(netip.MustParseAddrPort(s)); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, bad := range []string{"", "10.0.0.0/33", "host", "10.0.0.0-10.0.0.9", "fe80::1%lo"} {
		if _, err := ParseNetworks([]string{bad}); err == nil {
			t.Errorf("network %q was taken", bad)
		}
	}
}

func TestURLs(t *testing.T) {
	loopback, err := ParseNetworks([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	strict, local, open := &Rule{}, &Rule{Allow: loopback}, &Rule{Ports: []uint16{443, 80}}
	for _, c := range []struct {
		rule *Rule
		url  string
		want string // part of the reason; "" is accepted
	}{
		{strict, "https://example.com/hook?a=b", ""},
		{strict, "https://xn--e1afmkfd.example/", ""},
		{strict, "https://[2606:4700::1111]/x", ""},
		{strict, "https://example.com:443/", ""},
		{strict, "https://a_b.example.com./", ""},
		{strict, "http://example.com/", "port 443"},
		{strict, "https://example.com:8443/", "port 443"},
		{open, "http://example.com/", ""},
		{open, "https://example.com:8443/", "443 or 80"},
		{local, "http://127.0.0.1:8080/hook", ""},
		{local, "http://localhost:8080/hook", ""},
		{local, "http://receiver.internal:8080/hook", ""}, // where it leads is known when it is dialled
		{local, "http://10.0.0.1:8080/hook", "private"},
		{strict, "https://localhost/", "own machine"},
		{strict, "https://a.LOCALHOST./", "own machine"},
		{strict, "https://127.0.0.1/", "this machine"},
		{strict, "https://169.254.169.254/latest", "metadata"},
		{strict, "https://[::1]/", "public"},
		{strict, "https://[fe80::1%25lo]/", "zone"},
		{strict, "https://[::ffff:10.0.0.1]/", "private"},
		{strict, "https://127.1/", "decimal"},
		{strict, "https://2130706433/", "decimal"},
		{strict, "https://0x7f000001/", "decimal"},
		{strict, "https://0177.0.0.1/", "decimal"},
		{strict, "https://1.2.3.4.5/", "decimal"},
		{strict, "https://user:pw@example.com/", "user name"},
		{strict, "https://example.com@evil.example/", "user name"},
		{strict, "https://example.com/#x", "fragment"},
		{strict, "https://example.com/#", "fragment"},
		{strict, "ftp://example.com/", "http or https"},
		{strict, "unix:///run/docker.sock", "http or https"},
		{strict, "file:///etc/passwd", "http or https"},
		{strict, "gopher://example.com/", "http or https"},
		{strict, "HTTPS://EXAMPLE.COM/", ""},
		{strict, "https:example.com", "host"},
		{strict, "https:///path", "host"},
		{strict, "example.com", "http or https"},
		{strict, "", "http or https"},
		{strict, "https://exa mple.com/", "spaces"},
		{strict, "https://example.com/\r\nX: y", "control"},
		{strict, "https://example.com\\@evil.example/", "backslashes"},
		{strict, "https://еxample.com/", "xn--"}, // a Cyrillic letter
		{strict, "https://１２７.0.0.1/", "xn--"},
		{strict, "https://exa%6dple.com/", "URL"},
		{strict, "https://example.com:0/", "port"},
		{strict, "https://example.com:70000/", "port"},
		{strict, "https://example.com:/", "port"},
		{strict, "https://a..b/", "parts"},
		{strict, "https://" + strings.Repeat("a", 64) + ".com/", "parts"},
		{strict, "https://" + strings.Repeat("aaaaaaa.", 40) + "com/", "253"},
		{strict, "https://example.com/" + strings.Repeat("x", 64<<10), "2048"},
	} {
		got := c.rule.CheckURL(c.url, 2048)
		if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
			t.Errorf("%.80q: %q, want %q", c.url, got, c.want)
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range append(denied(), "https://example.com/", "http://[::1%25x]:1/", "https://0x7f.1/") {
		f.Add(s)
		f.Add("https://" + s + "/")
	}
	f.Fuzz(func(t *testing.T, raw string) {
		why := (&Rule{}).CheckURL(raw, 2048)
		if why != "" {
			return
		}
		if strings.ContainsAny(raw, " \r\n#\\@") && !strings.Contains(raw, "/") {
			t.Fatalf("%q was taken", raw)
		}
		for _, c := range raw {
			if c <= ' ' || c == 0x7f {
				t.Fatalf("%q was taken", raw)
			}
		}
	})
}
