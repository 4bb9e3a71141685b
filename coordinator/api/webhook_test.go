package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/webhook"
	"windlass/protocol"
)

func TestCallbackAddressesAreChecked(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep_echo", "")
	for url, part := range map[string]string{
		"https://169.254.169.254/latest/meta-data": "metadata", "https://10.0.0.1/": "private", "https://[::1]/": "public",
		"https://2130706433/": "decimal", "https://еxample.com/": "xn--", "https://example.com@evil.example/": "user name",
		"gopher://example.com/": "http or https", "https://example.com/#x": "fragment",
	} {
		for _, body := range []string{`{"input": {}, "callbackUrl": "` + url + `"}`, `{"input": {}, "webhook": {"url": "` + url + `"}}`, `{"input": {}, "webhook": "` + url + `"}`} {
			a := w.post("/v2/endpoints/ep_echo/runasync", body)
			var e protocol.Error
			a.json(t, &e)
			reason, _ := e.Details["reason"].(string)
			if a.status != 422 || e.Code != protocol.CodeValidation || !strings.Contains(reason, part) || e.Details["value"] != url {
				t.Errorf("%s: %d %s", body, a.status, a.body)
			}
		}
	}
}

// TestSubmitKeepsItsBase: URLs in the webhook begin with what the submitter used.
func TestSubmitKeepsItsBase(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep_echo", "")
	id := w.submit("ep_echo", `{"input": {}, "callbackUrl": "https://example.com/hook"}`)
	if x := w.store.Job(id).Extra; x.CallbackURL != "https://example.com/hook" || !strings.HasPrefix(x.CallbackBase, "http://") || strings.HasSuffix(x.CallbackBase, "/") {
		t.Errorf("kept %+v", x)
	}
}

func (w *world) deliveries(id protocol.JobID) []protocol.WebhookDelivery {
	w.t.Helper()
	var page protocol.Page[protocol.WebhookDelivery]
	a := w.get("/v2/jobs/" + id.String() + "/webhooks")
	if a.json(w.t, &page); a.status != 200 {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
	return page.Data
}

func TestDeliveryLogAndRedelivery(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep_echo", "")
	plain := w.submit("ep_echo", `{"input": {}}`)
	id := w.submit("ep_echo", `{"input": {}, "callbackUrl": "https://example.com/hook"}`)
	again := "/v2/jobs/" + id.String() + "/webhooks/redeliver"
	if list := w.deliveries(id); len(list) != 0 {
		t.Errorf("a job that waits has %+v", list)
	}
	if a := w.post(again, ""); a.status != 409 {
		t.Errorf("redelivered before its end: %d %s", a.status, a.body)
	}
	for _, job := range []protocol.JobID{plain, id} {
		w.post("/v2/jobs/"+job.String()+"/cancel", "")
	}
	if a := w.post("/v2/jobs/"+plain.String()+"/webhooks/redeliver", ""); a.status != 409 {
		t.Errorf("redelivered without a callback: %d %s", a.status, a.body)
	}
	list := w.deliveries(id)
	if len(list) != 1 || list[0].State != protocol.DeliveryPending || list[0].WebhookID != protocol.WebhookID(id, 1) || list[0].URL != "https://example.com/hook" || list[0].NextAttemptAt == 0 {
		t.Fatalf("the log is %+v", list)
	}
	record := &command.RecordDelivery{
		Job: id[:], Run: 1, Attempt: 1, Outcome: command.RecordDelivery_FAILED, StartedMs: 1_700_000_000_000, LatencyMs: 250, Status: 500,
		Error: "the receiver answered 500", Answer: "oh\x00 \u202e no",
	}
	if _, err := w.write(t.Context(), &command.Command{Op: &command.Command_RecordDelivery{RecordDelivery: record}}); err != nil {
		t.Fatal(err)
	}
	list = w.deliveries(id)
	want := protocol.WebhookAttempt{Attempt: 1, StartedAt: 1_700_000_000_000, Latency: 0.25, Status: 500, Error: record.Error, Answer: record.Answer}
	if list[0].State != protocol.DeliveryFailed || list[0].NextAttemptAt != 0 || len(list[0].Log) != 1 || list[0].Log[0] != want {
		t.Errorf("the log is %+v", list)
	}
	if a := w.post(again, ""); a.status != 200 || w.deliveries(id)[0].State != protocol.DeliveryPending {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestWebhookSecrets(t *testing.T) {
	w := newWorld(t)
	w.modern()
	list := func() []protocol.WebhookSecret {
		var page protocol.Page[protocol.WebhookSecret]
		a := w.get("/v2/webhooks/secrets")
		if a.json(t, &page); a.status != 200 || strings.Contains(string(a.body), "whsec_") {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return page.Data
	}
	make := func(path, body string) protocol.WebhookSecret {
		t.Helper()
		var s protocol.WebhookSecret
		a := w.post(path, body)
		if a.json(t, &s); a.status != 200 || !strings.HasPrefix(s.Secret, "whsec_") || len(s.Secret) < 40 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return s
	}
	first := make("/v2/webhooks/secrets", `{}`)
	if a := w.post("/v2/webhooks/secrets", ``); a.status != 409 {
		t.Errorf("a second one: %d %s", a.status, a.body)
	}
	second := make("/v2/webhooks/secrets/rotate", `{"overlap": "1h"}`)
	if l := list(); len(l) != 2 || l[0].ID != first.ID || l[0].ExpiresAt == 0 || l[1].ID != second.ID || l[1].ExpiresAt != 0 {
		t.Errorf("there are %+v", l)
	}
	if a := w.post("/v2/webhooks/secrets/rotate", ``); a.status != 409 {
		t.Errorf("a third one: %d %s", a.status, a.body)
	}
	if a := w.post("/v2/webhooks/secrets/rotate", `{"overlap": "721h"}`); a.status != 422 {
		t.Errorf("a long overlap: %d %s", a.status, a.body)
	}
	if a := w.do("DELETE", "/v2/webhooks/secrets/"+first.ID.String(), ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, id := range []string{first.ID.String(), "x"} {
		if a := w.do("DELETE", "/v2/webhooks/secrets/"+id, ""); a.status != 404 {
			t.Errorf("%s again: %d %s", id, a.status, a.body)
		}
	}
	if l := list(); len(l) != 1 || l[0].ID != second.ID {
		t.Errorf("there are %+v", l)
	}
	if strings.Contains(w.logged.String(), "whsec_") {
		t.Error("a secret is in the log")
	}
	other := w.tenant("org_other", "ep_other")
	for _, path := range []string{second.ID.String(), protocol.SecretID{1}.String()} {
		if a := w.do("DELETE", "/v2/webhooks/secrets/"+path, "", "Authorization", other.admin); a.status != 404 {
			t.Errorf("another organisation's: %d %s", a.status, a.body)
		}
	}
}

// secret names a webhook secret of the organisation, a new one if there is none.
func (n *tenant) secret() string {
	n.w.t.Helper()
	if live := n.w.store.View().WebhookSecrets(n.org).Live(nowMs()); len(live) > 0 {
		return live[0].ID.String()
	}
	put := webhook.NewSecret(n.org, time.Now())
	if _, err := n.w.write(n.w.t.Context(), &command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: put}}); err != nil {
		n.w.t.Fatal(err)
	}
	return protocol.SecretID(put.Id).String()
}

func TestTestEvent(t *testing.T) {
	w := newWorld(t)
	w.modern()
	var got http.Header
	var body []byte
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		rw.WriteHeader(http.StatusTeapot)
		_, _ = rw.Write([]byte("short and stout"))
	}))
	defer receiver.Close()
	var out protocol.WebhookTestResponse
	a := w.post("/v2/webhooks/test", `{"url": "`+receiver.URL+`/hook"}`)
	if a.json(t, &out); a.status != 200 || out.Delivered || out.Status != 418 || out.Answer != "short and stout" || out.WebhookID != got.Get(protocol.HeaderWebhookID) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if !strings.Contains(string(body), `"type":"webhook.test"`) || got.Get(protocol.HeaderWebhookSignature) == "" || got.Get("Authorization") != "" {
		t.Errorf("sent %s with %v", body, got)
	}
	for _, bad := range []string{`{"url": "https://10.0.0.1/"}`, `{}`, `{"url": 5}`} {
		if a := w.post("/v2/webhooks/test", bad); a.status != 422 {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
}
