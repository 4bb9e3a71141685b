package queue

import (
	"slices"
	"sort"
)

// blockSize makes a block 3 KiB: inserting into one moves at most that much,
// and a million jobs are four thousand blocks.
const blockSize = 256

// block is a sorted run of jobs: seqs[lo:hi] with the slots beside them.
type block struct {
	lo, hi int
	seqs   [blockSize]uint64
	slots  [blockSize]uint32
}

func (b *block) len() int     { return b.hi - b.lo }
func (b *block) last() uint64 { return b.seqs[b.hi-1] }

// find returns the index of the first element that is not below seq.
func (b *block) find(seq uint64) int {
	i, _ := slices.BinarySearch(b.seqs[b.lo:b.hi], seq)
	return b.lo + i
}

// lane is the ready jobs of one endpoint and priority, sorted by submission. A
// new job is appended and the first one removed in constant time; a returned
// job finds its old place by two binary searches.
type lane struct {
	endpoint Endpoint
	org      Org
	active   int // index in the queue's list of lanes that are not empty
	len      int
	blocks   []*block // none is empty
	spare    *block   // so that a lane that is often empty does not allocate
}

func (l *lane) head() (uint64, uint32) {
	b := l.blocks[0]
	return b.seqs[b.lo], b.slots[b.lo]
}

// search returns the index of the block that holds seq or its place: the first
// one whose last element is not below it.
func (l *lane) search(seq uint64) int {
	return sort.Search(len(l.blocks), func(i int) bool { return l.blocks[i].last() >= seq })
}

func (l *lane) insert(seq uint64, slot uint32) {
	l.len++
	n := len(l.blocks)
	if n == 0 || l.blocks[n-1].last() < seq {
		if n == 0 || l.blocks[n-1].hi == blockSize {
			l.blocks = append(l.blocks, l.newBlock())
			n++
		}
		b := l.blocks[n-1]
		b.seqs[b.hi], b.slots[b.hi] = seq, slot
		b.hi++
		return
	}
	i := l.search(seq)
	if l.blocks[i].len() == blockSize {
		l.split(i)
		if l.blocks[i].last() < seq {
			i++
		}
	}
	l.blocks[i].insert(seq, slot)
}

func (b *block) insert(seq uint64, slot uint32) {
	at := b.find(seq)
	if b.lo > 0 {
		copy(b.seqs[b.lo-1:], b.seqs[b.lo:at])
		copy(b.slots[b.lo-1:], b.slots[b.lo:at])
		b.lo--
		at--
	} else {
		copy(b.seqs[at+1:b.hi+1], b.seqs[at:b.hi])
		copy(b.slots[at+1:b.hi+1], b.slots[at:b.hi])
		b.hi++
	}
	b.seqs[at], b.slots[at] = seq, slot
}

func (l *lane) newBlock() *block {
	if b := l.spare; b != nil {
		l.spare = nil
		b.lo, b.hi = 0, 0
		return b
	}
	return &block{}
}

func (l *lane) split(i int) {
	b, right := l.blocks[i], l.newBlock()
	const half = blockSize / 2
	right.hi = copy(right.seqs[:], b.seqs[half:])
	copy(right.slots[:], b.slots[half:])
	b.hi = half
	l.blocks = slices.Insert(l.blocks, i+1, right)
}

func (l *lane) remove(seq uint64) {
	i := l.search(seq)
	b := l.blocks[i]
	at := b.find(seq)
	if at == b.lo {
		b.lo++
	} else {
		copy(b.seqs[at:], b.seqs[at+1:b.hi])
		copy(b.slots[at:], b.slots[at+1:b.hi])
		b.hi--
	}
	l.len--
	switch {
	case b.len() == 0:
		l.drop(i)
	case b.len() < blockSize/4 && i+1 < len(l.blocks):
		l.merge(i)
	}
}

func (l *lane) drop(i int) {
	l.spare = l.blocks[i]
	if i == 0 {
		l.blocks[0] = nil
		l.blocks = l.blocks[1:]
		return
	}
	l.blocks = slices.Delete(l.blocks, i, i+1)
}

// merge joins a thin block with the next one when they fill at most half a
// block, so that cancelling most of a long queue also frees its memory.
func (l *lane) merge(i int) {
	b, next := l.blocks[i], l.blocks[i+1]
	if b.len()+next.len() > blockSize/2 {
		return
	}
	if b.hi+next.len() > blockSize {
		n := copy(b.seqs[:], b.seqs[b.lo:b.hi])
		copy(b.slots[:], b.slots[b.lo:b.hi])
		b.lo, b.hi = 0, n
	}
	copy(b.slots[b.hi:], next.slots[next.lo:next.hi])
	b.hi += copy(b.seqs[b.hi:], next.seqs[next.lo:next.hi])
	l.drop(i + 1)
}

// rank is how many jobs of the lane were submitted before seq.
func (l *lane) rank(seq uint64) int {
	n := 0
	for _, b := range l.blocks {
		if b.last() >= seq {
			return n + b.find(seq) - b.lo
		}
		n += b.len()
	}
	return n
}
