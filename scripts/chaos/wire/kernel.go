package wire

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Kernel is the network of namespaces: every coordinator has its own, with an
// address, and all are joined by a bridge in the one that this process is in.
// Rules of nftables where packets come in break the ways. What packets cannot
// be made to do (later, twice) a proxy does, on a detour through this process.
type Kernel struct {
	route  Route
	subnet string // "10.77.3"
	bridge string

	mu    sync.Mutex
	ends  map[string]*end
	names []string
	ways  *mesh // while there is a detour
	met   int64 // packets that rules met which are gone
	sent  atomic.Int64
}

// end is one coordinator's namespace and what its packets meet.
type end struct {
	*space
	addr   string
	rules  rules
	loaded bool
}

const (
	apiPort  = "7400"
	peerPort = "7401"
	// firstHost is the last number of the first coordinator's address; 1 is ours.
	firstHost = 11
	// maxNumber bounds the numbers of networks: they are parts of addresses.
	maxNumber = 250
)

// Usable reports why the kernel cannot be the network here, if so. It tries
// everything once.
func Usable(where Enclosure, why error) error {
	if where != Inside {
		return fmt.Errorf("no namespaces: %w", why)
	}
	for _, name := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w (packages iproute2 and nftables)", err)
		}
	}
	k, err := NewKernel(0, nil)
	if err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		if _, err := k.Place(name); err != nil {
			return errors.Join(err, k.Close())
		}
	}
	pairs := Both("a", "b")
	return errors.Join(k.Cut(pairs...), k.Lose(0.5, pairs...), k.Refuse(pairs...), k.Close())
}

// NewKernel makes a network in the kernel. number is another one for each
// network of a process.
func NewKernel(number int, route Route) (*Kernel, error) {
	number %= maxNumber
	k := &Kernel{route: route, subnet: fmt.Sprint("10.77.", number), bridge: fmt.Sprint("chaos", number), ends: make(map[string]*end)}
	for _, args := range [][]string{
		{"link", "add", k.bridge, "type", "bridge"},
		{"addr", "add", k.subnet + ".1/24", "dev", k.bridge},
		{"link", "set", k.bridge, "up"},
	} {
		if err := ip(args...); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// Place implements Network.
func (k *Kernel) Place(name string) (Place, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := newSpace()
	if err != nil {
		return Place{}, err
	}
	number := firstHost + len(k.names)
	e := &end{space: s, addr: fmt.Sprint(k.subnet, ".", number)}
	k.ends[name], k.names = e, append(k.names, name)
	port := fmt.Sprint(k.bridge, "v", number)
	if err := ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", s.path()); err != nil {
		return Place{}, err
	}
	for _, args := range [][]string{
		{"addr", "add", e.addr + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		if _, err := s.tool("", "ip", args...); err != nil {
			return Place{}, err
		}
	}
	return Place{API: e.addr + ":" + apiPort, Peer: e.addr + ":" + peerPort}, ip("link", "set", port, "master", k.bridge, "up")
}

// Connect implements Network: the bridge has joined everybody.
func (k *Kernel) Connect() error { return nil }

// Start implements Network.
func (k *Kernel) Start(name string, cmd *exec.Cmd) error {
	k.mu.Lock()
	e := k.ends[name]
	k.mu.Unlock()
	if e == nil { // an agent, beside us
		return cmd.Start()
	}
	return e.enter(cmd.Start)
}

// Foreign implements Network.
func (k *Kernel) Foreign() bool { return true }

// change changes what everybody's packets meet, at all of these ends at once.
func (k *Kernel) change(pairs []Pair, set func(r *rules, from, to string)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	touched := make(map[*end]bool)
	for _, p := range pairs {
		to := k.ends[p.To]
		set(&to.rules, k.ends[p.From].addr, to.addr)
		touched[to] = true
	}
	var list []*end
	for e := range touched {
		list = append(list, e)
	}
	return k.load(list)
}

// load makes the kernel follow the rules of these ends, side by side, because
// half a partition is another fault.
func (k *Kernel) load(ends []*end) error {
	met := make([]int64, len(ends))
	err := each(ends, func(i int, e *end) (err error) {
		if met[i], err = e.met(); err == nil {
			_, err = e.tool(e.rules.text(), "nft", "-f", "-")
		}
		e.loaded = true
		return err
	})
	for _, n := range met {
		k.met += n
	}
	return err
}

// met is how many packets the rules of now have met.
func (e *end) met() (int64, error) {
	if !e.loaded {
		return 0, nil
	}
	list, err := e.tool("", "nft", "list", "table", "inet", "chaos")
	return packets(list), err
}

// each does something at all of these ends at once.
func each(ends []*end, do func(int, *end) error) error {
	errs := make([]error, len(ends))
	var all sync.WaitGroup
	for i, e := range ends {
		all.Go(func() { errs[i] = do(i, e) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Met implements Network.
func (k *Kernel) Met() (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := k.met + k.sent.Load()
	for _, e := range k.ends {
		n, err := e.met()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Cut implements Network.
func (k *Kernel) Cut(pairs ...Pair) error {
	return k.change(pairs, func(r *rules, from, _ string) { r.of(from).cut = true })
}

// Lose implements Network.
func (k *Kernel) Lose(share float64, pairs ...Pair) error {
	return k.change(pairs, func(r *rules, from, _ string) { r.of(from).loss = share })
}

// Refuse implements Network.
func (k *Kernel) Refuse(pairs ...Pair) error {
	return k.change(pairs, func(r *rules, from, _ string) { r.of(from).refuse = true })
}

// Silence implements Network.
func (k *Kernel) Silence(pairs ...Pair) error {
	all, err := k.flows()
	if err != nil {
		return err
	}
	both := slices.Clone(pairs)
	for _, p := range pairs {
		both = append(both, Pair{p.To, p.From})
	}
	return k.change(both, func(r *rules, from, to string) {
		for _, f := range all {
			r.silence(f.between(from, to))
		}
	})
}

// flows are the connections of now.
func (k *Kernel) flows() ([]flow, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []flow
	for _, e := range k.ends {
		of, err := e.flows()
		if err != nil {
			return nil, err
		}
		all = append(all, of...)
	}
	return all, nil
}

// Delay implements Network.
func (k *Kernel) Delay(delay, jitter time.Duration, pairs ...Pair) error {
	ways, err := k.detour()
	if err == nil {
		ways.packets(pairs, func(w *way) { w.delay, w.jitter = delay, jitter })
	}
	return err
}

// Double implements Network.
func (k *Kernel) Double(pairs ...Pair) error {
	ways, err := k.detour()
	if err == nil {
		ways.double(pairs)
	}
	return err
}

// detour leads everybody through proxies in this process: they dial them from
// now on, and what they had between them is refused.
func (k *Kernel) detour() (*mesh, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ways != nil {
		return k.ways, nil
	}
	peers := make(map[string]string)
	var list []*end
	for name, e := range k.ends {
		peers[name] = e.addr + ":" + peerPort
		list = append(list, e)
	}
	ways, err := newMesh(k.subnet+".1", peers, &k.sent)
	if err != nil {
		return nil, err
	}
	k.ways = ways
	if err := ways.tell(k.route); err != nil {
		return nil, err
	}
	for _, e := range list {
		for _, o := range list {
			if o != e {
				e.rules.of(o.addr).refuse = true
			}
		}
	}
	return ways, k.load(list)
}

// Heal implements Network.
func (k *Kernel) Heal() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*end
	for _, e := range k.ends {
		if !e.rules.none() {
			list = append(list, e)
		}
		e.rules = rules{}
	}
	err := k.load(list)
	if k.ways == nil {
		return err
	}
	for _, name := range k.names {
		err = errors.Join(err, k.route(name, nil))
	}
	k.ways.close() // what went through it is reset, and made again directly
	k.ways = nil
	return err
}

// Close implements Network.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ways != nil {
		k.ways.close()
	}
	var errs []error
	for _, e := range k.ends {
		errs = append(errs, e.close())
	}
	return errors.Join(append(errs, ip("link", "del", k.bridge))...)
}
