package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The handshake, after TLS. The caller sends
//
//	kind(1) version(1) size(2, big endian) fields(size)
//	fields: cluster, from, to; each is length(1) text
//
// and is answered with
//
//	status(1) version(1) size(2) fields(size)
//	fields: server, cluster, reason
//
// Fields that follow the known ones are passed over, so that a later version
// can say more to both.
const (
	// version of the handshake; a peer that sends another one is refused.
	version = 1

	// maxField is what one byte of length can say.
	maxField = 255

	// maxFrame bounds what a stranger can make us read. Three fields are 768.
	maxFrame = 1024

	frameHeader = 4
)

// hello is what a caller says.
type hello struct {
	kind          Kind
	cluster, from string
	to            string // "" is whoever listens there
}

// answer is what a caller is told.
type answer struct {
	status Status
	self   Identity
	reason string
}

func (h hello) encode() []byte {
	return frame(byte(h.kind), h.cluster, h.from, h.to)
}

func (a answer) encode() []byte {
	return frame(byte(a.status), a.self.Server, a.self.Cluster, a.reason)
}

func frame(first byte, fields ...string) []byte {
	b := []byte{first, version, 0, 0}
	for _, f := range fields {
		f = f[:min(len(f), maxField)] // only a reason can be longer
		b = append(append(b, byte(len(f))), f...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-frameHeader))
	return b
}

// errVersion and errMalformed become statuses of an answer.
var (
	errVersion   = errors.New("another version of the handshake")
	errMalformed = errors.New("malformed handshake")
)

// readFrame reads one frame with at least the three fields that both sides
// send. It reads no byte beyond the frame: what follows is the connection's.
func readFrame(r io.Reader) (first byte, fields [3]string, err error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return 0, fields, err
	}
	first = head[0]
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return first, fields, err
	}
	if head[1] != version {
		return first, fields, fmt.Errorf("%w: %d", errVersion, head[1])
	}
	size := binary.BigEndian.Uint16(head[2:])
	if size > maxFrame {
		return first, fields, fmt.Errorf("%w: %d bytes", errMalformed, size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return first, fields, err
	}
	for i := range fields {
		if len(body) == 0 || len(body) < 1+int(body[0]) {
			return first, fields, fmt.Errorf("%w: cut short", errMalformed)
		}
		end := 1 + int(body[0])
		fields[i], body = string(body[1:end]), body[end:]
	}
	return first, fields, nil
}

func readHello(r io.Reader) (hello, error) {
	kind, f, err := readFrame(r)
	return hello{kind: Kind(kind), cluster: f[0], from: f[1], to: f[2]}, err
}

func readAnswer(r io.Reader) (answer, error) {
	status, f, err := readFrame(r)
	return answer{status: Status(status), self: Identity{Server: f[0], Cluster: f[1]}, reason: f[2]}, err
}

// judge says how a caller is answered by the server that it reached.
func judge(h hello, self Identity) answer {
	a := answer{self: self}
	refuse := func(s Status, format string, args ...any) answer {
		a.status, a.reason = s, fmt.Sprintf(format, args...)
		return a
	}
	switch h.kind {
	case KindRaft, KindAPI:
		switch {
		case h.to != self.Server:
			return refuse(StatusWrongServer, "server %s is gone from this address: remove it (`windlass cluster remove`), unless it moved", h.to)
		case self.Cluster == "":
			return refuse(StatusWrongCluster, "this coordinator is in no cluster yet: start it with the join addresses of its cluster")
		case h.cluster != self.Cluster:
			return refuse(StatusWrongCluster, "this coordinator belongs to another cluster: correct join, or give it an empty data directory")
		}
	case KindRPC:
		if h.to != "" && h.to != self.Server {
			return refuse(StatusWrongServer, "server %s is gone from this address: remove it (`windlass cluster remove`), unless it moved", h.to)
		}
	default:
		return refuse(StatusKind, "unknown %s: run versions that are neighbours", h.kind)
	}
	return a
}
