package consensus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/hashicorp/raft"

	"windlass/protocol"
)

// A backup is one line that says what it is, one line of JSON (Backup), the
// state as the state machine writes it, with its own seal, and the SHA-256 of
// everything before.
const (
	backupMagic = "WINDLASS BACKUP 1\n"

	// maxBackupHeader bounds the JSON line; ours has some 200 bytes.
	maxBackupHeader = 64 << 10
)

// Backup describes a backup file.
type Backup struct {
	Cluster string `json:"cluster"`
	Server  string `json:"server"` // that wrote it
	Index   uint64 `json:"index"`  // newest entry in it
	Term    uint64 `json:"term"`   // of that entry
	Size    int64  `json:"size"`   // bytes of the state in it
	TakenMs int64  `json:"takenMs"`
	Version string `json:"version,omitempty"` // of the program that wrote it
}

// ErrBackup is in the chain of an error about a file that is no sound backup.
var ErrBackup = errors.New("backup is not sound")

// SaveSnapshot writes a backup of everything that was acknowledged before the
// call. Only the leader can: elsewhere the error has CodeNoLeader.
func (n *Node) SaveSnapshot(ctx context.Context, w io.Writer) error {
	if err := n.VerifyLeader(ctx); err != nil {
		return err
	}
	f := n.raft.Snapshot()
	if err := f.Error(); err != nil {
		return unavailable(outcomeNone, "the state could not be snapshotted, try again", err)
	}
	meta, state, err := f.Open()
	if err != nil {
		return fmt.Errorf("cannot read snapshot: %w", err)
	}
	header := Backup{
		Cluster: n.Identity().ClusterID, Server: n.server, Index: meta.Index, Term: meta.Term, Size: meta.Size,
		TakenMs: n.cfg.WallMs(), Version: n.cfg.Describe().Version,
	}
	return errors.Join(writeBackup(w, header, stopReader{ctx, state}), state.Close())
}

// stopReader ends with the caller's context.
type stopReader struct {
	ctx context.Context
	io.Reader
}

// Read implements io.Reader.
func (r stopReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

func writeBackup(w io.Writer, header Backup, state io.Reader) error {
	line, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("cannot encode backup: %w", err)
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	_, err = io.WriteString(out, backupMagic+string(line)+"\n")
	var size int64
	if err == nil {
		size, err = io.Copy(out, state)
	}
	if err == nil && size != header.Size {
		err = fmt.Errorf("the snapshot has %d bytes and says %d", size, header.Size)
	}
	if err == nil {
		_, err = w.Write(sum.Sum(nil))
	}
	if err != nil {
		return fmt.Errorf("cannot write backup: %w", err)
	}
	return nil
}

// ReadBackup reads a whole backup and copies the state in it to state; it is
// sound when there is no error, and not before. verify reads the state too, as
// Config.Verify does; nil checks the file's own sum alone.
func ReadBackup(r io.Reader, state io.Writer, verify func(io.Reader) error) (Backup, error) {
	b, err := readBackup(r, state, verify)
	if err != nil {
		return b, fmt.Errorf("%w: %w: take another backup file", ErrBackup, err)
	}
	return b, nil
}

func readBackup(r io.Reader, state io.Writer, verify func(io.Reader) error) (b Backup, err error) {
	sum := sha256.New()
	in := &summed{in: bufio.NewReader(r), sum: sum}
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in, magic); err != nil || string(magic) != backupMagic {
		return b, errors.New("it does not begin like a backup of this version")
	}
	line, err := in.line()
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(line, &b); err != nil || b.Index == 0 || b.Size < 0 {
		return b, errors.New("its description cannot be read")
	}
	if err := copyState(io.LimitReader(in, b.Size), state, b.Size, verify); err != nil {
		return b, err
	}
	want := sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in.in, got); err != nil {
		return b, fmt.Errorf("it ends early: %w", err)
	}
	if !bytes.Equal(got, want) {
		return b, errors.New("its checksum is wrong")
	}
	if _, err := in.in.ReadByte(); !errors.Is(err, io.EOF) {
		return b, errors.New("it has more bytes than it says")
	}
	return b, nil
}

// copyState copies the state while verify reads it.
func copyState(in io.Reader, state io.Writer, size int64, verify func(io.Reader) error) error {
	count := &counted{w: state}
	tee := io.TeeReader(in, count)
	if verify != nil {
		if err := verify(tee); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if count.n != size {
		return fmt.Errorf("it ends after %d of %d bytes of state", count.n, size)
	}
	return nil
}

type summed struct {
	in  *bufio.Reader
	sum hash.Hash
}

// Read implements io.Reader.
func (s *summed) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

// line reads up to a newline, byte by byte: what follows is not text.
func (s *summed) line() ([]byte, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < maxBackupHeader; line = append(line, one[0]) {
		if _, err := io.ReadFull(s, one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
	}
	return nil, errors.New("its description is too long")
}

type counted struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// RestoreSnapshot replaces the state of the whole cluster by a backup's, fenced
// (Config.Fence) against everything of the time after it. Nothing is touched
// before the whole file has verified. What is in flight ends with an unknown
// outcome. Only the leader can; it returns once the new state is committed, and
// Leadership then tells that this node leads, so that what the leader built
// from the old state is built anew.
func (n *Node) RestoreSnapshot(ctx context.Context, r io.Reader) (Backup, error) {
	if n.cfg.Fence == nil {
		return Backup{}, errors.New("cannot restore backup: Config.Fence is not set, and agents of the time after the backup could write to it")
	}
	if err := n.VerifyLeader(ctx); err != nil {
		return Backup{}, err
	}
	state, err := n.spool()
	if err != nil {
		return Backup{}, err
	}
	defer state.remove()
	b, err := ReadBackup(stopReader{ctx, r}, state, n.cfg.Verify)
	if err != nil {
		return b, err
	}
	fenced, err := n.spool()
	if err != nil {
		return b, err
	}
	defer fenced.remove()
	if err := state.rewind(); err != nil {
		return b, err
	}
	if err := n.cfg.Fence(state, fenced); err != nil {
		return b, fmt.Errorf("cannot fence backup: %w", err)
	}
	size, err := fenced.Seek(0, io.SeekEnd)
	if err == nil {
		err = fenced.rewind()
	}
	if err != nil {
		return b, fmt.Errorf("cannot read spooled backup: %w", err)
	}
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: b.Index, Term: b.Term, Size: size}
	if err := n.raft.Restore(meta, fenced, 0); err != nil {
		return b, restoreError(err)
	}
	n.lead.tell(n.IsLeader())
	return b, nil
}

func restoreError(err error) error {
	if errors.Is(err, raft.ErrNotLeader) {
		return errNotLeader()
	}
	return protocol.NewError(protocol.CodeUnavailable, "the backup may not have been restored everywhere: "+err.Error()).With("outcome", outcomeUnknown)
}

// spool is a file that is gone when the process is.
type spool struct{ *os.File }

const spoolPattern = "restore-*.tmp"

func (n *Node) spool() (spool, error) {
	dir := "" // in memory: the machine's
	if d := n.cfg.Directory; d != nil {
		dir = d.path
	}
	f, err := os.CreateTemp(dir, spoolPattern)
	if err != nil {
		return spool{}, fmt.Errorf("cannot spool backup: %w: free space for a second copy of the state", err)
	}
	if err := os.Remove(f.Name()); err != nil { // it lives as long as it is open
		return spool{}, errors.Join(fmt.Errorf("cannot spool backup: %w", err), f.Close())
	}
	return spool{f}, nil
}

func (s spool) rewind() error {
	_, err := s.Seek(0, io.SeekStart)
	return err
}

func (s spool) remove() { _ = s.Close() } // nobody reads it again
