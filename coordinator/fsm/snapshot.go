package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// A snapshot is
//
//	magic, format version                        9 bytes
//	zstd( [type byte][uvarint length][record]* ) header first, trailer last
//	SHA-256 of everything before                 32 bytes
//
// with the records of snapshot.proto, tables in the order of the types below,
// rows in key order.
const (
	magic         = "WINDLASS"
	formatVersion = 1
)

// The record types. A version that meets one it does not know refuses the
// snapshot, because it would lose what the record says.
const (
	typeHeader byte = iota + 1
	typeEndpoint
	typeAgent
	typeKey
	typeJob
	typeTrailer
	typeSegment // between the keys and the jobs

	typeSecrets byte = 40 // after the keys, before the segments
)

// These come before the endpoints.
const (
	typeOrg byte = iota + 20
	typeAPIKey
)

// typeStored is between the segments and the jobs.
const (
	typeStored byte = 50
)

// place orders the record types in a snapshot.
func place(kind byte) int {
	const step = 10
	switch kind {
	case typeOrg:
		return step*int(typeHeader) + 1
	case typeAPIKey:
		return step*int(typeHeader) + 2
	case typeSecrets:
		return step*int(typeKey) + 1
	case typeSegment:
		return step*int(typeKey) + 2
	case typeStored:
		return step*int(typeKey) + 5
	}
	return step * int(kind)
}

// writeBuffer gathers what the compressor writes; disks and raft's own checksum
// like it large.
const writeBuffer = 256 << 10

// snapshot implements raft.FSMSnapshot.
type snapshot struct {
	view *state.View
}

var _ raft.FSMSnapshot = (*snapshot)(nil)

// Persist writes the view; applies go on meanwhile.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := write(sink, func(w *recordWriter) { w.view(s.view) }); err != nil {
		return fmt.Errorf("cannot write snapshot: %w", errors.Join(err, sink.Cancel()))
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("cannot close snapshot: %w", err)
	}
	return nil
}

// Release implements raft.FSMSnapshot; the view is garbage once nobody has it.
func (s *snapshot) Release() {}

// write frames and seals what fill writes.
func write(sink io.Writer, fill func(*recordWriter)) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(sink, writeBuffer)
	sealed := io.MultiWriter(out, sum)
	if _, err := sealed.Write(append([]byte(magic), formatVersion)); err != nil {
		return err
	}
	// One goroutine and a fixed level: equal states give equal bytes.
	pack, err := zstd.NewWriter(sealed, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	records := &recordWriter{to: pack}
	fill(records)
	if err := errors.Join(records.err, pack.Close()); err != nil {
		return err
	}
	if _, err := out.Write(sum.Sum(nil)); err != nil {
		return err
	}
	return out.Flush()
}

// recordWriter frames records; after an error it does nothing.
type recordWriter struct {
	to   io.Writer
	rows scratch
	buf  []byte
	turn int // bytes since others were let run
	err  error
}

// turnBytes is how many bytes of records are written before others run: some
// 50 us. Who only computes keeps a processor for 10 ms, and a batch that became
// ready meanwhile waits for that long, several times on its way.
const turnBytes = 16 << 10

func (w *recordWriter) view(v *state.View) {
	var count TrailerRecord
	w.record(typeHeader, headerRecord(v.Meta()))
	v.OrgRows(func(o *state.Org) {
		count.Orgs++
		w.record(typeOrg, orgRecord(o))
	})
	for _, k := range v.APIKeys() {
		count.ApiKeys++
		w.record(typeAPIKey, apiKeyRecord(k))
	}
	for _, e := range v.Endpoints("") {
		count.Endpoints++
		w.record(typeEndpoint, endpointRecord(e))
	}
	for _, a := range v.Agents() {
		count.Agents++
		w.record(typeAgent, agentRecord(a))
	}
	v.Keys(func(k *state.Key) bool {
		count.Keys++
		return w.record(typeKey, w.rows.keyRecord(k))
	})
	for _, s := range v.AllWebhookSecrets() {
		count.Secrets++
		w.record(typeSecrets, secretsRecord(s))
	}
	for _, g := range v.Segments() {
		count.Segments++
		w.record(typeSegment, segmentRecord(g))
	}
	v.Stored(func(s *state.Stored) bool {
		count.Stored++
		return w.record(typeStored, storedRecord(s))
	})
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		count.Jobs++
		return w.record(typeJob, w.rows.jobRecord(j))
	})
	w.record(typeTrailer, &count)
}

// record writes one record and reports whether the writer still works.
func (w *recordWriter) record(kind byte, m proto.Message) bool {
	if w.err != nil {
		return false
	}
	options := proto.MarshalOptions{Deterministic: true}
	w.frame(kind, options.Size(m))
	if w.buf, w.err = options.MarshalAppend(w.buf, m); w.err == nil {
		_, w.err = w.to.Write(w.buf)
	}
	if w.turn += len(w.buf); w.turn >= turnBytes {
		w.turn = 0
		runtime.Gosched()
	}
	return w.err == nil
}

// raw writes a record that is encoded already.
func (w *recordWriter) raw(kind byte, record []byte) {
	if w.err != nil {
		return
	}
	w.frame(kind, len(record))
	w.buf = append(w.buf, record...)
	_, w.err = w.to.Write(w.buf)
}

func (w *recordWriter) frame(kind byte, size int) {
	w.buf = append(w.buf[:0], kind)
	w.buf = binary.AppendUvarint(w.buf, uint64(size))
}
