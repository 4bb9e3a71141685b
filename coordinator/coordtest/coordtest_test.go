package coordtest

import (
	"net/http"
	"strings"
	"testing"
)

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	c := Start(t)
	post(t, c, "/v2/endpoints", `{"kind":"Endpoint","id":"ep_echo","runtime":{"kind":"builtin"}}`)
	post(t, c, "/v2/endpoints/ep_echo/runasync", `{"input":{}}`)
	c.Restart()
	res, err := c.HTTP.Do(request(t, http.MethodGet, "/v2/endpoints/ep_echo", ""))
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("endpoint after the restart: %s", res.Status)
	}
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

func post(t *testing.T, c *Cluster, path, body string) {
	t.Helper()
	res, err := c.HTTP.Do(request(t, http.MethodPost, path, body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s", path, res.Status)
	}
}

func request(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+Key)
	req.Header.Set("Content-Type", "application/json")
	return req
}
