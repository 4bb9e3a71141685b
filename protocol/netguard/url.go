package netguard

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	// maxHost is the longest name that DNS can have.
	maxHost = 253

	// maxLabel is the longest part of one.
	maxLabel = 63
)

// CheckURL says why a URL that somebody names is refused, or nothing. It looks at
// what is written: form, scheme, host and port. Where a name leads is known when
// it is dialled.
func (r *Rule) CheckURL(raw string, limit int) string {
	if len(raw) > limit {
		return "Must be at most " + strconv.Itoa(limit) + " characters"
	}
	if strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '\\' }) {
		return "Must be a URL without spaces, control characters and backslashes"
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "Must be a valid URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "Must be an http or https URL"
	case u.User != nil || strings.Contains(u.Host, "@"):
		return "Must not hold a user name or password"
	case u.Opaque != "" || u.Hostname() == "":
		return "Must name a host"
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return "Must not hold a fragment"
	}
	if why := checkHost(u.Hostname()); why != "" {
		return why
	}
	return r.checkTarget(u)
}

// checkHost says what is wrong with the way a host is written.
func checkHost(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	for _, c := range host {
		if c >= 0x80 {
			// Letters that only look like others: nobody can see where it leads.
			return "Must name its host in ASCII: write an international name in its xn-- form"
		}
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", c) {
			return "Must name a host with letters, digits, dots and hyphens"
		}
	}
	name := strings.TrimSuffix(host, ".")
	if len(name) > maxHost {
		return fmt.Sprintf("Must name a host with at most %d characters", maxHost)
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxLabel {
			return fmt.Sprintf("Must name a host whose parts have 1 to %d characters", maxLabel)
		}
	}
	if last := labels[len(labels)-1]; number(last) {
		// 127.1, 2130706433, 0x7f000001 and 0177.0.0.1 are addresses to some.
		return "Must write an address as four decimal numbers, or IPv6 in brackets"
	}
	return ""
}

// number reports whether the last part of a host makes it an address in the eyes
// of browsers and C libraries.
func number(s string) bool {
	if _, err := strconv.ParseUint(s, 10, 64); err == nil {
		return true
	}
	return len(s) >= 2 && (s[:2] == "0x" || s[:2] == "0X")
}

// checkTarget refuses what would surely be refused when it is dialled.
func (r *Rule) checkTarget(u *url.URL) string {
	port, ok := portOf(u)
	if !ok {
		return "Must have a port between 1 and 65535"
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	if err == nil {
		if denied := r.Check(netip.AddrPortFrom(addr, port)); denied != nil {
			return r.reason(denied)
		}
		return ""
	}
	if localName(host) && r.Check(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)) != nil {
		return "Must not name the coordinator's own machine"
	}
	// A name may lead into an allowed network, where every port is.
	if len(r.Allow) == 0 && !r.port(port) {
		return fmt.Sprintf("Must use port %s", r.ports())
	}
	return ""
}

// reason is the text for whoever wrote the URL.
func (r *Rule) reason(denied error) string {
	if d, ok := denied.(*Denied); ok {
		return "Must be an address that may be reached: " + d.Reason
	}
	return "Must be an address that may be reached"
}

func (r *Rule) ports() string {
	if len(r.Ports) == 0 {
		return strconv.Itoa(httpsPort)
	}
	list := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		list[i] = strconv.Itoa(int(p))
	}
	return strings.Join(list, " or ")
}

func portOf(u *url.URL) (uint16, bool) {
	if strings.HasSuffix(u.Host, ":") {
		return 0, false
	}
	switch {
	case u.Port() != "":
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		return uint16(n), err == nil && n > 0
	case u.Scheme == "https":
		return httpsPort, true
	}
	const httpPort = 80
	return httpPort, true
}
