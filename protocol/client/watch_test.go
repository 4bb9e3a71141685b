package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"windlass/protocol"
)

func statusEvent(id string, s protocol.Status) protocol.Event {
	b, _ := json.Marshal(protocol.JobStatus{Status: s, Priority: protocol.PriorityNormal})
	return protocol.Event{ID: id, Type: protocol.EventStatus, Data: b}
}

func stream(events ...protocol.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		var b []byte
		for _, e := range events {
			b = protocol.AppendComment(b, "still here")
			b = protocol.AppendEvent(b, e)
		}
		_, _ = w.Write(b)
	}
}

func watched(t *testing.T, c *Client) (ids []string, err error) {
	t.Helper()
	for e, err := range c.Watch(t.Context(), job()) {
		if err != nil {
			return ids, err
		}
		ids = append(ids, e.ID)
	}
	return ids, nil
}

func TestWatchGoesOnWhereItBroke(t *testing.T) {
	a, addr := serve(t,
		stream(statusEvent("1", protocol.StatusQueued), statusEvent("2", protocol.StatusRunning)),
		refuse(protocol.CodeUnavailable),
		stream(statusEvent("3", protocol.StatusCompleted), statusEvent("4", protocol.StatusCompleted)))
	ids, err := watched(t, newClient(t, addr))
	if err != nil || len(ids) != 3 || ids[2] != "3" {
		t.Fatalf("events %v, %v: want 1 2 3", ids, err)
	}
	if got := a.requests[2].Header.Get(protocol.HeaderLastEventID); got != "2" {
		t.Fatalf("reconnected after %q, want 2", got)
	}
}

func TestWatchEndsWithNoContent(t *testing.T) {
	_, addr := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if ids, err := watched(t, newClient(t, addr)); err != nil || len(ids) != 0 {
		t.Fatalf("events %v, %v", ids, err)
	}
}

func TestWatchOfAnUnknownJob(t *testing.T) {
	a, addr := serve(t, refuse(protocol.CodeJobNotFound))
	if _, err := watched(t, newClient(t, addr)); protocol.CodeOf(err) != protocol.CodeJobNotFound || a.count() != 1 {
		t.Fatalf("%v after %d requests", err, a.count())
	}
}

func TestWatchGivesUpOnAStreamThatNeverSpeaks(t *testing.T) {
	_, addr := serve(t, stream())
	c := newClient(t, addr)
	c.tries = 2
	if _, err := watched(t, c); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("Watch = %v", err)
	}
}
