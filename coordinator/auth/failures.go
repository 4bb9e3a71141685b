package auth

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds the addresses that are remembered for having failed; beyond
// it those that failed least are forgotten first, and then any.
const maxAddresses = 10_000

// networkBits is how much of an IPv6 address names its owner: everybody has the
// rest to choose from.
const networkBits = 64

// Failures counts the keys that were not valid, by the address that sent them.
type Failures struct {
	limit int

	mu        sync.Mutex
	addresses map[netip.Addr]*rate.Limiter
}

// NewFailures allows so many failures a minute for each address; 0 is no limit.
func NewFailures(limit int) *Failures {
	return &Failures{limit: limit, addresses: make(map[netip.Addr]*rate.Limiter)}
}

// Limit is how many failures a minute are allowed.
func (f *Failures) Limit() int { return f.limit }

// Exhausted returns after how many seconds the address may try again; 0: now.
func (f *Failures) Exhausted(from netip.Addr, now time.Time) int {
	if f.limit == 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.addresses[network(from)]
	if b == nil {
		return 0
	}
	if tokens := b.TokensAt(now); tokens < 1 {
		return quota(f.limit, tokens, false).RetryAfter
	}
	return 0
}

// Count notes a failure.
func (f *Failures) Count(from netip.Addr, now time.Time) {
	if f.limit == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	from = network(from)
	b := f.addresses[from]
	if b == nil {
		f.makeRoom(now)
		b = newBucket(f.limit)
		f.addresses[from] = b
	}
	b.AllowN(now, 1)
}

func (f *Failures) makeRoom(now time.Time) {
	if len(f.addresses) < maxAddresses {
		return
	}
	sweep(f.addresses, now)
	for from := range f.addresses {
		if len(f.addresses) < maxAddresses {
			return
		}
		delete(f.addresses, from)
	}
}

// network is the part of an address that is counted.
func network(from netip.Addr) netip.Addr {
	from = from.Unmap()
	if from.Is4() || !from.IsValid() {
		return from
	}
	p, err := from.WithZone("").Prefix(networkBits)
	if err != nil {
		return from
	}
	return p.Addr()
}
