package api

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/board"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// streamed runs the stream of one queued job in virtual time. It returns the
// reader's end and what is closed when the stream has ended.
func streamed(t *testing.T) (net.Conn, <-chan struct{}) {
	t.Helper()
	store := state.New()
	txn := store.Begin()
	txn.PutEndpoint(&state.Endpoint{Org: protocol.OrgDefault, ID: "ep", Revision: 1, Doc: &protocol.Endpoint{ID: "ep"}})
	job := &state.Job{ID: protocol.NewJobID(time.Now()), Org: protocol.OrgDefault, Target: "ep", Status: protocol.StatusQueued}
	txn.PutJob(job)
	txn.Commit(1)
	s := &Server{base: t.Context(), deps: Deps{Store: store, NowMs: nowMs, Cluster: leading{}, Board: board.New(board.Config{Job: store.Job, NowMs: nowMs})}}
	reader, writer := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer writer.Close()
		(&follower{s: s, job: job.ID}).run(writer)
	}()
	return reader, done
}

func TestStreamSaysThatItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, done := streamed(t)
		lines := bufio.NewScanner(conn)
		began := time.Now()
		for n := 1; n <= 3; {
			if !lines.Scan() {
				t.Fatalf("the stream ended: %v", lines.Err())
			}
			if strings.HasPrefix(lines.Text(), ":") {
				if at := time.Since(began); at != time.Duration(n)*commentEvery {
					t.Errorf("comment %d came after %v", n, at)
				}
				n++
			}
		}
		conn.Close()
		<-done
	})
}

func TestStreamGivesUpOnAReaderThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, done := streamed(t)
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-done
		if took := time.Since(began); took != replyTime {
			t.Errorf("the stream waited %v for its reader, want %v", took, replyTime)
		}
	})
}
