package consensus

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"windlass/protocol"
)

// marked is a Fence that can be seen.
func marked(in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(in)
	if err == nil {
		_, err = out.Write(bytes.Replace(raw, []byte(`"Fenced":false`), []byte(`"Fenced":true`), 1))
	}
	return err
}

func whole(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err == nil && !bytes.HasSuffix(raw, []byte("}")) {
		err = errors.New("no seal")
	}
	return err
}

func TestBackupAndRestore(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		for _, s := range w.seats {
			s.cfg.Fence, s.cfg.Verify = marked, whole
		}
		w.start(0, 1, 2)
		w.voting(0, 1, 2)
		w.put(1, 2)
		w.agree(1, 2)
		lead := w.seats[w.leader()]
		var file bytes.Buffer
		if err := lead.SaveSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
		w.put(3)
		w.agree(1, 2, 3)
		follower := w.seats[w.others(w.leader())[0]]
		if err := follower.SaveSnapshot(t.Context(), io.Discard); protocol.CodeOf(err) != protocol.CodeNoLeader {
			t.Fatalf("a follower saved: %v", err)
		}

		for i := range file.Len() { // whatever is damaged: nothing is touched
			for _, damaged := range [][]byte{flipped(file.Bytes(), i), file.Bytes()[:i]} {
				if _, err := lead.RestoreSnapshot(t.Context(), bytes.NewReader(damaged)); !errors.Is(err, ErrBackup) {
					t.Fatalf("restored with byte %d damaged: %v", i, err)
				}
			}
		}
		if _, err := lead.RestoreSnapshot(t.Context(), io.MultiReader(bytes.NewReader(file.Bytes()), bytes.NewReader([]byte{0}))); !errors.Is(err, ErrBackup) {
			t.Fatalf("restored with a byte too many: %v", err)
		}
		w.agree(1, 2, 3)
		if lead.fsm.fenced() {
			t.Fatal("fenced without a restore")
		}

		drain(lead.Leadership())
		b, err := lead.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if b.Cluster != lead.Identity().ClusterID || b.Index == 0 || b.Server != lead.Identity().ServerID {
			t.Errorf("%+v", b)
		}
		select {
		case leads := <-lead.Leadership():
			if !leads {
				t.Error("leadership lost by a restore")
			}
		case <-time.After(time.Second):
			t.Error("nobody is told that the state was replaced")
		}
		w.agree(1, 2)
		for i, s := range w.seats {
			if !s.fsm.fenced() {
				t.Errorf("seat %d is not fenced", i)
			}
		}
		w.put(4)
		w.agree(1, 2, 4)
		w.kill(0)
		w.start(0)
		w.agree(1, 2, 4)
	})
}

func drain(ch <-chan bool) {
	select {
	case <-ch:
	default:
	}
}

func flipped(raw []byte, i int) []byte {
	out := slices.Clone(raw)
	out[i] ^= 1
	return out
}

func TestBackupGoesIntoAnotherCluster(t *testing.T) {
	var file bytes.Buffer
	trio(t, func(t *testing.T, w *world) {
		for v := range int64(50) {
			w.put(v + 1)
		}
		if err := w.seats[w.leader()].SaveSnapshot(t.Context(), &file); err != nil {
			t.Fatal(err)
		}
	})
	loose := start(t, Config{Memory: NewMemory()})
	loose.lead(t)
	if _, err := loose.RestoreSnapshot(t.Context(), bytes.NewReader(file.Bytes())); err == nil {
		t.Fatal("restored without a fence")
	}
	m := start(t, Config{Memory: NewMemory(), Fence: marked})
	m.lead(t)
	if _, err := m.RestoreSnapshot(t.Context(), &file); err != nil {
		t.Fatal(err)
	}
	m.mustPut(t, 51)
	if got := m.fsm.values(); len(got) != 51 || got[50] != 51 {
		t.Fatalf("%v", got)
	}
}

func TestBackupEndsWithItsCaller(t *testing.T) {
	m := start(t, Config{Memory: NewMemory()})
	m.lead(t)
	m.mustPut(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.SaveSnapshot(ctx, io.Discard); err == nil {
		t.Fatal("saved for nobody")
	}
}
