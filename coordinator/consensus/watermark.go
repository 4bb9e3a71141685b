package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	watermarkFile  = "watermark"
	watermarkMagic = "WLMARK01"

	// slotSize keeps the two slots in different pages, so that no write touches
	// both.
	slotSize = 4096

	// slotHeader is magic, sequence, index, term, term of the vote, and the
	// lengths of the three texts behind them; a CRC32C follows these.
	slotHeader = 8 + 4*8 + 3*2

	// watermarkPeriod is how much of its newest promises a node may forget when
	// the power fails: then a log that is cut in the same second is not noticed
	// on this node alone.
	watermarkPeriod = time.Second
)

// promise is what this node told others that it has: it acknowledged entries up
// to index, took part in term, and voted in voteTerm for candidate.
type promise struct {
	server    string // whose promise it is
	cluster   string // that it is given in; "" when that was not known yet
	index     uint64
	term      uint64
	voteTerm  uint64
	candidate string // "" when it is not known whom
}

// watermark keeps the promise in a small file beside the log, outside of what
// raft-wal can lose: a log whose tail is damaged looks to it like one that was
// torn by a crash, and it drops acknowledged entries silently (reliability D6).
//
// The file is written after what it speaks of is durable, and synced in the
// background, so after a power failure it is behind the log and never ahead. It
// has two slots; the one that was synced last is not touched until the other is
// synced, so at most one can be torn.
type watermark struct {
	file io.WriterAt
	sync func() error

	mu      sync.Mutex
	settled sync.Cond // syncing became false; uses mu
	now     promise
	seq     uint64
	slot    int64 // the one that is written
	dirty   bool  // the slot has what was not synced
	behind  bool  // now has what is not in the slot
	syncing bool
	buf     []byte
}

// openWatermark opens the file of a directory, or makes it. fresh: it was made
// now, so it knows nothing of what the directory had before.
func openWatermark(dir, server string) (w *watermark, closer io.Closer, fresh bool, err error) {
	path := filepath.Join(dir, watermarkFile)
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		fresh = true
		if err = makeWatermark(dir, path, server); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0o600)
		}
	}
	if err != nil {
		return nil, nil, false, fmt.Errorf("cannot open watermark: %w", err)
	}
	w = &watermark{file: f, sync: func() error { return syncData(f) }}
	w.settled.L = &w.mu
	if err := w.load(f, dir); err != nil {
		return nil, nil, false, errors.Join(err, f.Close())
	}
	return w, f, fresh, nil
}

// makeWatermark puts a whole file in place, so that one that is short is damage.
func makeWatermark(dir, path, server string) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	both := make([]byte, 0, 2*slotSize)
	for seq := range uint64(2) {
		both = append(both, appendSlot(nil, seq, promise{server: server})...)
		both = append(both, make([]byte, slotSize-len(both)%slotSize)...)
	}
	_, err = f.Write(both)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	return err
}

// appendSlot appends what is used of a slot; it is never a multiple of slotSize.
func appendSlot(b []byte, seq uint64, p promise) []byte {
	start := len(b)
	b = append(b, watermarkMagic...)
	for _, n := range []uint64{seq, p.index, p.term, p.voteTerm} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	texts := [...]string{p.server, p.cluster, p.candidate}
	for _, s := range texts {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	}
	for _, s := range texts {
		b = append(b, s...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

// decodeSlot reads what appendSlot wrote; false: it is torn or damaged.
func decodeSlot(b []byte) (seq uint64, p promise, ok bool) {
	if len(b) != slotSize || string(b[:len(watermarkMagic)]) != watermarkMagic {
		return 0, promise{}, false
	}
	number := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	var texts [3]string
	end := slotHeader
	for i := range texts {
		size := int(binary.LittleEndian.Uint16(b[40+2*i:]))
		if end+size+crc32.Size > slotSize {
			return 0, promise{}, false
		}
		texts[i] = string(b[end : end+size])
		end += size
	}
	if crc32.Checksum(b[:end], castagnoli()) != binary.LittleEndian.Uint32(b[end:]) {
		return 0, promise{}, false
	}
	return number(0), promise{
		server: texts[0], cluster: texts[1], candidate: texts[2],
		index: number(1), term: number(2), voteTerm: number(3),
	}, true
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// load takes the newer of the sound slots, and goes on with the other.
func (w *watermark) load(f io.ReaderAt, dir string) error {
	found := false
	for slot := range int64(2) {
		b := make([]byte, slotSize)
		if _, err := f.ReadAt(b, slot*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read watermark: %w", err)
		}
		seq, p, ok := decodeSlot(b)
		if ok && (!found || seq > w.seq) {
			found, w.seq, w.now, w.slot = true, seq, p, 1-slot
		}
	}
	if !found {
		return &DamageError{Dir: dir, Err: errors.New("the watermark is damaged, so that nobody knows whether the log is whole")}
	}
	return nil
}

// change records a promise that is durable elsewhere by now.
func (w *watermark) change(to func(*promise)) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	to(&w.now)
	if w.syncing {
		w.behind = true // the slot that is being synced stays as it is
		return nil
	}
	return w.writeLocked()
}

func (w *watermark) writeLocked() error {
	w.seq++
	w.buf = appendSlot(w.buf[:0], w.seq, w.now)
	if _, err := w.file.WriteAt(w.buf, w.slot*slotSize); err != nil {
		return fmt.Errorf("cannot write watermark: %w", err)
	}
	w.dirty, w.behind = true, false
	return nil
}

// flush makes the newest promise durable.
func (w *watermark) flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.syncing {
		w.settled.Wait()
	}
	return w.flushLocked()
}

// flushLocked syncs the slot without the lock, and then turns to the other one.
func (w *watermark) flushLocked() error {
	if w.behind {
		if err := w.writeLocked(); err != nil {
			return err
		}
	}
	if !w.dirty {
		return nil
	}
	w.syncing = true
	w.mu.Unlock()
	err := w.sync()
	w.mu.Lock()
	w.syncing = false
	w.settled.Broadcast()
	if err != nil {
		return fmt.Errorf("cannot sync watermark: %w", err)
	}
	w.dirty = false
	w.slot = 1 - w.slot
	return nil
}

// lower takes back what was acknowledged above index, durably in both slots,
// before the log is cut there. It never raises.
func (w *watermark) lower(index uint64) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.syncing {
		w.settled.Wait()
	}
	if w.now.index <= index {
		return nil
	}
	w.now.index = index
	for range 2 {
		w.behind = true
		if err := w.flushLocked(); err != nil {
			return err
		}
	}
	return nil
}

// current is the newest promise.
func (w *watermark) current() promise {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// run syncs now and then until ctx ends, and once more. What fails is reported
// like every storage error.
func (w *watermark) run(ctx context.Context, fail func(error) error) {
	if w == nil {
		return
	}
	tick := time.NewTicker(watermarkPeriod)
	defer tick.Stop()
	for {
		last := false
		select {
		case <-ctx.Done():
			last = true
		case <-tick.C:
		}
		err := w.flush()
		if err != nil {
			err = fail(err)
		}
		if last || err != nil {
			return
		}
	}
}
