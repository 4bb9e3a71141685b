// Package client is the Go SDK of Windlass: what the CLI and the agent speak to
// coordinators with. See DESIGN.md.
package client

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultAddr is where `windlass dev` and a coordinator without further
// configuration listen.
const DefaultAddr = "http://127.0.0.1:7400"

// ErrUnreachable is in the chain of every error that says that no coordinator
// answered at all; an answer, however bad, is a *protocol.Error.
var ErrUnreachable = errors.New("no coordinator answered")

// Config says how to reach a cluster.
type Config struct {
	// Addrs are the coordinators' base URLs without /v2 (a trailing /v2 is
	// removed); any of them answers. Empty means DefaultAddr.
	Addrs []string
	// Key is the API key, or an agent's credential; empty sends none.
	Key string
	// HTTP is the client to send with; nil means one made for long polls and
	// streams. It must not have a global timeout.
	HTTP *http.Client
	// UserAgent names the program in the coordinator's log.
	UserAgent string
	// Tries is how often a repeatable call is sent round all addresses before
	// its error is returned; 0 means DefaultTries.
	Tries int
}

// DefaultTries together with the back-off bridges a leader election, which
// takes one to three seconds, and still tells a user within about five seconds
// that nothing is there.
const DefaultTries = 6

// Client speaks to a cluster through whichever coordinator answers. It is safe
// for concurrent use.
type Client struct {
	addrs     []string
	key       string
	http      *http.Client
	userAgent string
	tries     int

	mu      sync.Mutex
	current string               // the address that answered last, possibly one that a leader hint named
	dead    map[string]time.Time // addresses that could not be reached, until when they are tried last
}

// New checks the configuration; it sends nothing.
func New(cfg Config) (*Client, error) {
	c := &Client{key: cfg.Key, http: cfg.HTTP, userAgent: cfg.UserAgent, tries: cfg.Tries}
	for _, a := range cfg.Addrs {
		base, err := ParseAddr(a)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(c.addrs, base) {
			c.addrs = append(c.addrs, base)
		}
	}
	if len(c.addrs) == 0 {
		c.addrs = []string{DefaultAddr}
	}
	if strings.ContainsAny(c.key, "\r\n") {
		return nil, errors.New("cannot use the API key: it contains a line break; set WINDLASS_API_KEY without it")
	}
	if c.http == nil {
		c.http = &http.Client{Transport: NewTransport()}
	}
	if c.userAgent == "" {
		c.userAgent = "windlass-go"
	}
	if c.tries <= 0 {
		c.tries = DefaultTries
	}
	c.current, c.dead = c.addrs[0], make(map[string]time.Time)
	return c, nil
}

// ParseAddrs splits a comma list, as in WINDLASS_ADDR, and checks each address.
func ParseAddrs(list string) ([]string, error) {
	var addrs []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		a, err := ParseAddr(part)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// ParseAddr brings one base URL into its usual form: http when no scheme is
// given, without a trailing slash or /v2.
func ParseAddr(addr string) (string, error) {
	s := strings.TrimSpace(addr)
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("cannot use address %q: want a base URL such as %s", addr, DefaultAddr)
	}
	path := strings.TrimRight(u.Path, "/")
	path = strings.TrimRight(strings.TrimSuffix(path, "/v2"), "/")
	return u.Scheme + "://" + u.Host + path, nil
}

// Times of the transport. Nothing bounds a whole request: polls are held and
// streams stay open, so deadlines come from the caller's context.
const (
	dialTimeout     = 5 * time.Second  // a coordinator on any sane network answers a SYN sooner
	keepAlivePeriod = 15 * time.Second // finds a peer that vanished under a parked poll
	idleTimeout     = 90 * time.Second // longer than the poll hold, so that a poll's connection is reused
	idlePerHost     = 64               // enough for a busy submitter, bounded for a leaking one
)

// NewTransport returns a transport fit for long polls and event streams.
func NewTransport() *http.Transport {
	d := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAlivePeriod, Interval: keepAlivePeriod, Count: 3,
	}}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         d.DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		TLSHandshakeTimeout: dialTimeout,
	}
}

// Addr is the base URL that answered last.
func (c *Client) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Close releases idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) answered(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = addr
	delete(c.dead, addr)
}

// unreachable notes that nobody could be asked at addr.
func (c *Client) unreachable(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for a, until := range c.dead {
		if now.After(until) {
			delete(c.dead, a)
		}
	}
	c.dead[addr] = now.Add(relayTerm)
}

// silent notes that a request to addr ended without an answer: a coordinator that
// was stopped keeps its connections, so the next request begins elsewhere.
func (c *Client) silent(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == addr {
		c.current = c.addrs[(slices.Index(c.addrs, addr)+1)%len(c.addrs)]
	}
}

// avoided reports whether addr could not be reached lately.
func (c *Client) avoided(addr string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.dead[addr]
	return known && time.Now().Before(until)
}

// candidates are the addresses of one pass: the one that answered last first,
// those that could not be reached lately last.
func (c *Client) candidates() []string {
	order := append(make([]string, 0, len(c.addrs)+1), c.Addr())
	for _, a := range c.addrs {
		if a != order[0] {
			order = append(order, a)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(c.avoided(a)), rank(c.avoided(b))) })
	return order
}

func rank(avoided bool) int {
	if avoided {
		return 1
	}
	return 0
}
