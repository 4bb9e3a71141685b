package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// Proxies is the network that needs no rights: everybody is on this host's
// loopback, and every way passes through a proxy in this process. What it cuts
// off, it holds, and that arrives when the way is whole again.
type Proxies struct {
	route Route
	peers map[string]string // name -> peer address
	ways  *mesh
	met   atomic.Int64
}

// NewProxies makes a network of proxies.
func NewProxies(route Route) *Proxies {
	return &Proxies{route: route, peers: make(map[string]string)}
}

// Place implements Network.
func (p *Proxies) Place(name string) (Place, error) {
	api, err := freeAddr()
	if err != nil {
		return Place{}, err
	}
	p.peers[name], err = freeAddr()
	return Place{API: api, Peer: p.peers[name]}, err
}

// Connect implements Network.
func (p *Proxies) Connect() (err error) {
	p.ways, err = newMesh("127.0.0.1", p.peers, &p.met)
	if err != nil {
		return err
	}
	return p.ways.tell(p.route)
}

// Start implements Network.
func (p *Proxies) Start(_ string, cmd *exec.Cmd) error { return cmd.Start() }

// Foreign implements Network.
func (p *Proxies) Foreign() bool { return false }

// Cut implements Network.
func (p *Proxies) Cut(pairs ...Pair) error {
	p.ways.packets(pairs, func(w *way) { w.cut = true })
	return nil
}

// Lose implements Network.
func (p *Proxies) Lose(share float64, pairs ...Pair) error {
	p.ways.packets(pairs, func(w *way) { w.loss = share })
	return nil
}

// Refuse implements Network.
func (p *Proxies) Refuse(pairs ...Pair) error {
	p.ways.each(pairs, func(l *link) {
		l.change(func(l *link) { l.refuse = true })
		l.reset()
	})
	return nil
}

// Silence implements Network.
func (p *Proxies) Silence(pairs ...Pair) error {
	p.ways.each(pairs, (*link).silence)
	return nil
}

// Delay implements Network.
func (p *Proxies) Delay(delay, jitter time.Duration, pairs ...Pair) error {
	p.ways.packets(pairs, func(w *way) { w.delay, w.jitter = delay, jitter })
	return nil
}

// Double implements Network. What is connected is reset, so that it is made
// again and doubled.
func (p *Proxies) Double(pairs ...Pair) error {
	p.ways.double(pairs)
	return nil
}

// Heal implements Network.
func (p *Proxies) Heal() error {
	p.ways.each(p.ways.pairs(), (*link).heal)
	return nil
}

// Met implements Network.
func (p *Proxies) Met() (int64, error) { return p.met.Load(), nil }

// Close implements Network.
func (p *Proxies) Close() error {
	if p.ways != nil {
		p.ways.close()
	}
	return nil
}

// mesh is a link for every directed pair of ends: from dials to on it.
type mesh struct {
	peers map[string]string
	links map[Pair]*link
}

func newMesh(host string, peers map[string]string, met *atomic.Int64) (*mesh, error) {
	m := &mesh{peers: peers, links: make(map[Pair]*link)}
	for from := range peers {
		for to, addr := range peers {
			if from == to {
				continue
			}
			l, err := newLink(host, addr, met)
			if err != nil {
				m.close()
				return nil, fmt.Errorf("cannot stand between %s and %s: %w", from, to, err)
			}
			m.links[Pair{from, to}] = l
		}
	}
	return m, nil
}

// tell makes everybody dial the links.
func (m *mesh) tell(route Route) error {
	var errs []error
	for from := range m.peers {
		detours := make(map[string]string)
		for to, addr := range m.peers {
			if l := m.links[Pair{from, to}]; l != nil {
				detours[addr] = l.addr()
			}
		}
		errs = append(errs, route(from, detours))
	}
	return errors.Join(errs...)
}

func (m *mesh) pairs() []Pair {
	var out []Pair
	for p := range m.links {
		out = append(out, p)
	}
	return out
}

// packets changes what happens to everything that is sent in a direction: on
// the connections that from dialed, and in the answers on those of to.
func (m *mesh) packets(pairs []Pair, change func(*way)) {
	for _, p := range pairs {
		m.links[p].change(func(l *link) { change(&l.there) })
		m.links[Pair{p.To, p.From}].change(func(l *link) { change(&l.back) })
	}
}

func (m *mesh) each(pairs []Pair, do func(*link)) {
	for _, p := range pairs {
		do(m.links[p])
	}
}

func (m *mesh) double(pairs []Pair) {
	m.each(pairs, func(l *link) {
		l.change(func(l *link) { l.double = true })
		l.reset()
	})
}

func (m *mesh) close() {
	for _, l := range m.links {
		l.close()
	}
}

// Ports of coordinators lie below those that the system gives to connections,
// so that nobody takes one while its coordinator is down.
const (
	lowPort  = 12000
	highPort = 32000
)

func freeAddr() (string, error) {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", lowPort+rand.IntN(highPort-lowPort))
		ln, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		return addr, ln.Close()
	}
}
