package api

import (
	"context"
	"testing"
)

// TestShutdownDoesNotWaitForWhoeverSaysNothing: a client opened a connection in
// advance and has not used it.
func TestShutdownDoesNotWaitForWhoeverSaysNothing(t *testing.T) {
	w := newWorld(t)
	conn, err := w.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.get("/healthz") // the connection before was accepted
	ctx, cancel := context.WithTimeout(t.Context(), headerTime/4)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown waits: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}
