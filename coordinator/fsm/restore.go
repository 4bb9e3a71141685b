package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
)

// maxRecord bounds one record: a job is what one Submit and one Finish carried.
const maxRecord = 2 * command.MaxEntry

// maxWindow bounds what a damaged snapshot can make the decompressor allocate;
// the fastest level uses 4 MiB.
const maxWindow = 8 << 20

// read builds tables from a snapshot and verifies all of it.
func read(source io.Reader, builder *state.Builder) (state.Meta, error) {
	sealed := newSealReader(source)
	if err := sealed.preamble(); err != nil {
		return state.Meta{}, err
	}
	unpack, err := newUnpacker(sealed)
	if err != nil {
		return state.Meta{}, err
	}
	defer unpack.Close()
	records := &recordReader{from: bufio.NewReaderSize(unpack, readBuffer), to: builder}
	if err := records.all(); err != nil {
		return state.Meta{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return records.meta, sealed.check()
}

func newUnpacker(from io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
}

// recordReader unframes records in the order in which recordWriter wrote them.
type recordReader struct {
	from  *bufio.Reader
	to    *state.Builder
	buf   bytes.Buffer
	last  byte // type of the record before
	meta  state.Meta
	count TrailerRecord
}

func (r *recordReader) all() error {
	for r.last != typeTrailer {
		if err := r.one(); err != nil {
			return err
		}
	}
	if _, err := r.from.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the trailer")
	}
	return nil
}

func (r *recordReader) one() error {
	kind, err := r.next()
	if err != nil {
		return err
	}
	return r.row(kind)
}

// next reads a record into buf and returns its type.
func (r *recordReader) next() (byte, error) {
	kind, err := r.from.ReadByte()
	if err != nil {
		return 0, fmt.Errorf("cannot read a record's type: %w", err)
	}
	if place(kind) < place(r.last) || kind == r.last && (kind == typeHeader || kind == typeTrailer) || r.last == 0 && kind != typeHeader {
		return 0, fmt.Errorf("record type %d cannot follow %d", kind, r.last)
	}
	r.last = kind
	size, err := binary.ReadUvarint(r.from)
	if err != nil {
		return 0, fmt.Errorf("cannot read a record's length: %w", err)
	}
	if size > maxRecord {
		return 0, fmt.Errorf("a record of %d bytes is above the limit of %d", size, maxRecord)
	}
	r.buf.Reset()
	// The buffer grows with the data, not with what the length claims.
	if _, err := io.CopyN(&r.buf, r.from, int64(size)); err != nil {
		return 0, fmt.Errorf("cannot read a record of %d bytes: %w", size, err)
	}
	return kind, nil
}

func (r *recordReader) row(kind byte) error {
	switch kind {
	case typeHeader:
		return each(r, new(HeaderRecord), func(m *HeaderRecord) error {
			var err error
			if r.meta, err = metaOf(m); err != nil {
				return err
			}
			return command.SupportsFeature(r.meta.Feature)
		})
	case typeOrg:
		r.count.Orgs++
		return each(r, new(OrgRecord), r.org)
	case typeAPIKey:
		r.count.ApiKeys++
		return each(r, new(APIKeyRecord), r.apiKey)
	case typeEndpoint:
		r.count.Endpoints++
		return each(r, new(EndpointRecord), r.endpoint)
	case typeAgent:
		r.count.Agents++
		return each(r, new(AgentRecord), r.agent)
	case typeKey:
		r.count.Keys++
		return each(r, new(KeyRecord), r.key)
	case typeSecrets:
		r.count.Secrets++
		return each(r, new(SecretsRecord), r.secrets)
	case typeSegment:
		r.count.Segments++
		return each(r, new(SegmentRecord), r.segment)
	case typeStored:
		r.count.Stored++
		return each(r, new(StoredRecord), r.stored)
	case typeJob:
		r.count.Jobs++
		return each(r, new(JobRecord), r.job)
	case typeTrailer:
		return each(r, new(TrailerRecord), func(m *TrailerRecord) error {
			if !proto.Equal(m, &r.count) {
				return fmt.Errorf("the trailer counts %v, there are %v", m, &r.count)
			}
			return nil
		})
	}
	return fmt.Errorf("record type %d is unknown", kind)
}

// each decodes the record that was read and hands it on.
func each[M proto.Message](r *recordReader, m M, use func(M) error) error {
	if err := proto.Unmarshal(r.buf.Bytes(), m); err != nil {
		return fmt.Errorf("cannot decode a record: %w", err)
	}
	if err := known(m); err != nil {
		return err
	}
	return use(m)
}
