package wire

import (
	"io"
	"net"
	"sync"
	"time"
)

const (
	// doubleDelay is how much later everything arrives a second time: several
	// exchanges, so that what is repeated is the past.
	doubleDelay = 150 * time.Millisecond

	// doubleChunks bounds what waits for its repetition; a connection that sends
	// faster loses its double.
	doubleChunks = 256
)

// double is a second connection to the target on which the bytes of the first
// arrive once more, later. What is answered there reaches nobody.
type double struct {
	chunks chan chunk
	wg     sync.WaitGroup

	mu   sync.Mutex
	over bool
}

type chunk struct {
	due  time.Time
	data []byte
}

func newDouble(target string) *double {
	d := &double{chunks: make(chan chunk, doubleChunks)}
	d.wg.Go(func() { d.repeat(target) })
	return d
}

func (d *double) repeat(target string) {
	out, err := net.Dial("tcp", target)
	if err != nil {
		for range d.chunks { // the first connection goes on without
		}
		return
	}
	defer out.Close()
	d.wg.Go(func() { _, _ = io.Copy(io.Discard, out) })
	for c := range d.chunks {
		time.Sleep(time.Until(c.due))
		_, _ = out.Write(c.data)
	}
}

// Write implements io.Writer: it never holds up the first connection.
func (d *double) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return len(p), nil
	}
	select {
	case d.chunks <- chunk{time.Now().Add(doubleDelay), append([]byte(nil), p...)}:
	default:
		d.stop()
	}
	return len(p), nil
}

// stop needs mu.
func (d *double) stop() {
	if !d.over {
		d.over = true
		close(d.chunks)
	}
}

// end lets what waits arrive, and closes.
func (d *double) end() {
	d.mu.Lock()
	d.stop()
	d.mu.Unlock()
	d.wg.Wait()
}
