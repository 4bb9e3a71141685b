package api

import (
	"strconv"
	"strings"
	"testing"
)

// TestBodyOfAGetIsNoRequest: what a GET carries as its body must not be taken for
// the connection's next request, which somebody else may have begun there.
func TestBodyOfAGetIsNoRequest(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", "")
	job := w.submit("ep_echo", `{"input": {}}`).String()
	hidden := "GET /v2/agents HTTP/1.1\r\nHost: x\r\nAuthorization: " + testKey + "\r\n\r\n"
	for _, path := range []string{"/v2/jobs", "/v2/jobs/job_x/status", "/v2/jobs/" + job + "/status", "/v2/jobs/" + job + "/status?wait=300ms", "/healthz"} {
		for _, body := range []string{
			"Content-Length: " + strconv.Itoa(len(hidden)) + "\r\n\r\n" + hidden,
			"Transfer-Encoding: chunked\r\n\r\n" + "0\r\n\r\n" + hidden,
		} {
			got := w.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: " + testKey + "\r\n" + body)
			if n := strings.Count(got, "HTTP/1.1 "); n != 1 {
				t.Errorf("%s: %d answers:\n%s", path, n, got)
			}
		}
	}
}
