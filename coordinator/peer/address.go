package peer

import (
	"fmt"
	"net"
	"strings"
)

// Identity is who a coordinator is: its server id, which was made with its data
// directory, and its cluster, "" until it is in one.
type Identity struct {
	Server  string `json:"server"`
	Cluster string `json:"cluster,omitempty"`
}

// Address is where a coordinator is reached and which one must answer there.
// Its text is "srv_x@host:port"; without a server, "host:port" is whoever
// listens there.
type Address struct {
	Server string
	Host   string // host:port
}

// ParseAddress reads the text of an address.
func ParseAddress(s string) (Address, error) {
	server, host, found := strings.Cut(s, "@")
	if !found {
		server, host = "", s
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil || name == "" || port == "" || found && server == "" || len(server) > maxField || len(host) > maxField {
		return Address{}, fmt.Errorf("cannot parse peer address %q: write host:port or server@host:port", s)
	}
	return Address{Server: server, Host: host}, nil
}

// String returns the text of the address.
func (a Address) String() string {
	if a.Server == "" {
		return a.Host
	}
	return a.Server + "@" + a.Host
}
