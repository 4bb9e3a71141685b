package coordtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestAStopDoesNotWaitForClients stops all coordinators at once in the middle of
// everything that a client can do and not end: the last ones have no majority
// while they stop.
func TestAStopDoesNotWaitForClients(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	startWorker(t, p)
	id := submit(t, p.Nodes[0], `{"n":1}`)
	const key = "Authorization: Bearer " + Key + "\r\n"
	for _, n := range p.Nodes {
		for _, text := range []string{
			"",
			"GET /v2/jobs HTTP/1.1\r\nHost: x\r\n" + key,
			"POST /v2/endpoints/" + endpoint + "/runasync HTTP/1.1\r\nHost: x\r\n" + key + "Content-Length: 50000\r\n\r\n{",
			"GET " + jobPath(id) + "/status/stream HTTP/1.1\r\nHost: x\r\n" + key + "\r\n",
			"GET " + jobPath(id) + "/status?wait=60s HTTP/1.1\r\nHost: x\r\n" + key + "\r\n",
		} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
		}
		if res := n.ask(t, http.MethodGet, jobPath(id)+"/status", "", nil); res.StatusCode != http.StatusOK {
			t.Fatal(res.Status) // and its connection stays open
		}
	}
	stopped := make([]error, len(p.Nodes))
	var work sync.WaitGroup
	for i, n := range p.Nodes {
		work.Go(func() {
			if err := n.end(); err != nil {
				stopped[i] = fmt.Errorf("coordinator %d: %w", i, err)
			}
		})
	}
	work.Wait()
	if err := errors.Join(stopped...); err != nil {
		t.Error(err)
	}
}
