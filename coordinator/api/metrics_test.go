package api

import (
	"bytes"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	w.submit("ep", `{"input": {}, "priority": "high"}`)
	a := w.get("/metrics")
	problems, err := promlint.New(bytes.NewReader(a.body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	for _, line := range []string{
		`windlass_queue_jobs{endpoint="ep",priority="high"} 1`,
		`windlass_http_requests_total{code="200",operation="submit"} 1`,
		`windlass_jobs_submitted_total{endpoint="ep",priority="high"} 1`,
	} {
		if !bytes.Contains(a.body, []byte(line+"\n")) {
			t.Errorf("%s is missing from\n%s", line, a.body)
		}
	}
}
