// Package netguard decides where a process may connect on behalf of somebody
// else: webhooks to the receivers that callers name, downloads of the inputs that
// they name. The rule is about the address that is dialled, after every name was
// resolved, because a name can mean another address by then. See DESIGN.md.
package netguard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rule says which addresses may be reached. The zero value allows port 443 of
// public addresses. It is read-only once it is in use.
type Rule struct {
	// Allow is networks that may be reached although they are not public, on any
	// port: an operator's own receivers.
	Allow []netip.Prefix
	// Ports of public addresses; none is 443 alone.
	Ports []uint16
}

// httpsPort is the only port of public addresses unless others are configured:
// what listens elsewhere is rarely meant for strangers.
const httpsPort = 443

// Denied says why an address may not be reached. It is in the chain of the error
// that a guarded dial returns.
type Denied struct {
	Address string // as it would have been dialled
	Reason  string
}

// Error implements error.
func (e *Denied) Error() string { return e.Address + " may not be reached: " + e.Reason }

// ParseNetworks reads the networks of an allow list: CIDR, or an address alone.
// The error names the first mistake.
func ParseNetworks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot parse network %q: write an address or a network like 10.0.0.0/8", s)
		}
		// A mapped network is that of the addresses that it maps.
		if a := p.Addr(); a.Is4In6() && p.Bits() >= mappedBits {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-mappedBits)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// mappedBits is the length of the prefix ::ffff:0:0, behind which IPv4 is mapped.
const mappedBits = 96

// Check returns nil when the address may be reached, or a *Denied.
func (r *Rule) Check(to netip.AddrPort) error {
	addr := to.Addr().Unmap()
	if addr.Zone() != "" {
		return &Denied{to.String(), "an address with a zone is one of this machine's links"}
	}
	for _, p := range r.Allow {
		if p.Contains(addr) {
			return nil
		}
	}
	if why := special(addr); why != "" {
		return &Denied{to.String(), why}
	}
	if !r.port(to.Port()) {
		return &Denied{to.String(), fmt.Sprintf("port %d is not one of the ports that may be reached", to.Port())}
	}
	return nil
}

// port reports whether a port of a public address may be reached.
func (r *Rule) port(port uint16) bool {
	if len(r.Ports) == 0 {
		return port == httpsPort
	}
	return slices.Contains(r.Ports, port)
}

// block is a network that is not public, or that leads to one that may not be.
type block struct{ network, why string }

// blocks4 are the networks of IPv4 that are not public (the registry of special
// addresses, RFC 6890 and its successors).
func blocks4() []block {
	return []block{
		{"0.0.0.0/8", "it means this machine"},
		{"10.0.0.0/8", "it is private"},
		{"100.64.0.0/10", "it is shared by a provider"},
		{"127.0.0.0/8", "it is this machine"},
		{"169.254.0.0/16", "it is link-local, where clouds keep their metadata"},
		{"172.16.0.0/12", "it is private"},
		{"192.0.0.0/24", "it is reserved for protocols"},
		{"192.0.2.0/24", "it is for documentation"},
		{"192.31.196.0/24", "it is a special service"},
		{"192.52.193.0/24", "it is a special service"},
		{"192.88.99.0/24", "it relays to other networks"},
		{"192.168.0.0/16", "it is private"},
		{"192.175.48.0/24", "it is a special service"},
		{"198.18.0.0/15", "it is for measurements"},
		{"198.51.100.0/24", "it is for documentation"},
		{"203.0.113.0/24", "it is for documentation"},
		{"224.0.0.0/4", "it is multicast"},
		{"240.0.0.0/4", "it is reserved"},
	}
}

// global6 is where public addresses of IPv6 are; what is outside is loopback,
// private, link-local, multicast, mapped, or translated to IPv4.
const global6 = "2000::/3"

// blocks6 are the networks inside global6 that are not public or lead elsewhere.
func blocks6() []block {
	return []block{
		{"2001::/23", "it is a tunnel or reserved for protocols"},
		{"2001:db8::/32", "it is for documentation"},
		{"2002::/16", "it is a tunnel to IPv4"},
		{"2620:4f:8000::/48", "it is a special service"},
		{"3fff::/20", "it is for documentation"},
	}
}

// special says why an address is not public, or nothing.
func special(addr netip.Addr) string {
	if !addr.IsValid() {
		return "it is no address"
	}
	blocks := blocks4()
	if addr.Is6() {
		if !netip.MustParsePrefix(global6).Contains(addr) {
			return "it is not a public address"
		}
		blocks = blocks6()
	}
	for _, b := range blocks {
		if netip.MustParsePrefix(b.network).Contains(addr) {
			return b.why
		}
	}
	return ""
}

// localName reports whether a name always means this machine.
func localName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
