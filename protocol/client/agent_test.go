package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

func TestSyncFollowsTheLeader(t *testing.T) {
	leader, leaderAddr := serve(t, reply(200, protocol.SyncResponse{Seq: 7}))
	follower, followerAddr := serve(t, reply(200, protocol.SyncResponse{Leader: leaderAddr}))
	c := newClient(t, followerAddr)
	for range 2 {
		r, err := c.Sync(t.Context(), protocol.SyncRequest{Seq: 7})
		if err != nil || r.Seq != 7 {
			t.Fatalf("Sync = %+v, %v", r, err)
		}
	}
	if follower.count() != 1 || leader.count() != 2 {
		t.Fatalf("follower asked %d times, leader %d: want 1 and 2", follower.count(), leader.count())
	}
}

func TestAHintWithoutSchemeKeepsIt(t *testing.T) {
	_, leaderAddr := serve(t, reply(200, protocol.ReportResponse{BeatMs: 5}))
	_, addr := serve(t, reply(200, protocol.ReportResponse{Leader: strings.TrimPrefix(leaderAddr, "http://")}))
	if r, err := newClient(t, addr).Report(t.Context(), protocol.ReportRequest{}); err != nil || r.BeatMs != 5 {
		t.Fatalf("Report = %+v, %v", r, err)
	}
}

func TestHintsInACircleEnd(t *testing.T) {
	var addr string
	a, addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		reply(200, protocol.SyncResponse{Leader: "http://" + r.Host})(w, r)
	})
	_, err := newClient(t, addr).Sync(t.Context(), protocol.SyncRequest{})
	if protocol.CodeOf(err) != protocol.CodeNoLeader || a.count() != maxHops+1 {
		t.Fatalf("%v after %d requests", err, a.count())
	}
}

func TestALostPollIsNotSentAgain(t *testing.T) {
	a, addr := serve(t, cut)
	b, other := serve(t, reply(200, protocol.SyncResponse{}))
	_, err := newClient(t, addr, other).Sync(t.Context(), protocol.SyncRequest{})
	if !errors.Is(err, ErrUnreachable) || a.count() != 1 || b.count() != 0 {
		t.Fatalf("%v after %d and %d requests", err, a.count(), b.count())
	}
}

func TestADeadCoordinatorIsPassedOver(t *testing.T) {
	_, addr := serve(t, reply(200, protocol.SyncResponse{Seq: 1}))
	if r, err := newClient(t, deadAddr(t), addr).Sync(t.Context(), protocol.SyncRequest{}); err != nil || r.Seq != 1 {
		t.Fatalf("Sync = %+v, %v", r, err)
	}
}

func TestPutBlobSendsTheWholeBodyAgain(t *testing.T) {
	a, addr := serve(t, cut, reply(200, struct{}{}))
	err := newClient(t, addr).PutBlob(t.Context(), "abc", 5, bytes.NewReader([]byte("hello")))
	if err != nil || a.count() != 2 || a.bodies[1] != "hello" {
		t.Fatalf("%v after %d requests: %q", err, a.count(), a.bodies)
	}
}

func TestPutBlobDoesNotSendHalfABody(t *testing.T) {
	a, addr := serve(t, cut)
	err := newClient(t, addr).PutBlob(t.Context(), "abc", 5, io.MultiReader(strings.NewReader("hello")))
	if !errors.Is(err, ErrUnreachable) || a.count() != 1 {
		t.Fatalf("%v after %d requests", err, a.count())
	}
}

// TestALeaderOutOfReachIsAskedThroughAFollower: the address that the follower
// names does not answer, so the follower is asked to relay, until a while later
// the leader is tried again.
func TestALeaderOutOfReachIsAskedThroughAFollower(t *testing.T) {
	gone := deadAddr(t)
	answer := func(w http.ResponseWriter, r *http.Request) {
		var req protocol.SyncRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		if req.Relay {
			reply(200, protocol.SyncResponse{Seq: req.Seq})(w, r)
		} else {
			reply(200, protocol.SyncResponse{Leader: gone})(w, r)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(s.Close)
	c := newClient(t, s.URL)
	for n := range uint64(2) {
		if r, err := c.Sync(t.Context(), protocol.SyncRequest{Seq: n}); err != nil || r.Seq != n || r.Leader != "" {
			t.Fatalf("Sync %d = %+v, %v", n, r, err)
		}
	}
	if !c.avoided(gone) || c.Addr() != s.URL {
		t.Fatalf("asks %s next, avoids the leader: %v", c.Addr(), c.avoided(gone))
	}
	c.mu.Lock()
	c.dead[gone] = time.Now()
	c.mu.Unlock()
	if got := c.candidates(); c.avoided(gone) || len(got) != 1 {
		t.Fatalf("the leader is never tried again: %v", got)
	}
}

func TestAnAddressThatDoesNotAnswerIsTriedLast(t *testing.T) {
	_, addr := serve(t, reply(200, protocol.SyncResponse{}))
	gone := deadAddr(t)
	c := newClient(t, gone, addr)
	if _, err := c.Sync(t.Context(), protocol.SyncRequest{}); err != nil {
		t.Fatal(err)
	}
	c.answered(addr)
	if got := c.candidates(); got[0] != addr || got[1] != gone {
		t.Fatalf("order %v", got)
	}
}

// TestASilentCoordinatorIsLeft: a leader that was stopped takes requests and answers
// none. The next request asks somebody else, who knows its successor.
func TestASilentCoordinatorIsLeft(t *testing.T) {
	over := make(chan struct{})
	stopped := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	t.Cleanup(stopped.Close)
	t.Cleanup(func() { close(over) })
	_, other := serve(t, reply(200, protocol.ReportResponse{BeatMs: 7}))
	for _, addrs := range [][]string{{stopped.URL, other}, {other, stopped.URL}, {other}} {
		c := newClient(t, addrs...)
		c.answered(stopped.URL) // a hint may have named it
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := c.Report(ctx, protocol.ReportRequest{})
		cancel()
		if err == nil {
			t.Fatal("a stopped coordinator answered")
		}
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		if r, err := c.Report(ctx, protocol.ReportRequest{}); err != nil || r.BeatMs != 7 {
			t.Fatalf("with %v: %+v %v", addrs, r, err)
		}
		cancel()
	}
}
