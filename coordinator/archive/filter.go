package archive

import (
	"hash/fnv"

	"windlass/protocol"
)

const (
	// filterBits is the size of a filter per job: with filterHashes, one id in a
	// hundred that is not there costs a read.
	filterBits   = 10
	filterHashes = 7
)

// filter is a Bloom filter over the ids of a segment: segments of one time have
// ids in common ranges, and a lookup should read only the one that has the job.
type filter []byte

func newFilter(jobs int) filter { return make(filter, max(8, (jobs*filterBits+7)/8)) }

func (f filter) add(id protocol.JobID) {
	f.probe(id, func(at uint64) bool {
		f[at/8] |= 1 << (at % 8)
		return true
	})
}

// has reports whether the id may have been added.
func (f filter) has(id protocol.JobID) bool {
	return f.probe(id, func(at uint64) bool { return f[at/8]&(1<<(at%8)) != 0 })
}

// probe visits the id's bits until visit returns false, and reports whether it
// never did.
func (f filter) probe(id protocol.JobID, visit func(at uint64) bool) bool {
	h := fnv.New64a()
	h.Write(id[:]) // it returns no error
	a := h.Sum64()
	// The second hash is the finaliser of splitmix64; odd, so that it moves.
	b := (a ^ a>>30) * 0xbf58476d1ce4e5b9
	b = ((b ^ b>>27) * 0x94d049bb133111eb) | 1
	bits := uint64(len(f)) * 8
	for range filterHashes {
		if !visit(a % bits) {
			return false
		}
		a += b
	}
	return true
}
