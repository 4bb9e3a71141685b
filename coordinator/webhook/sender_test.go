package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// arrival is a request that the receiver got.
type arrival struct {
	at     time.Duration // since the test began
	id     string
	body   string
	header http.Header
}

// receiving puts a receiver in place of the network; it notes what arrives and
// answers as fn says.
func (w *world) receiving(fn func(n int) (*http.Response, error)) func() []arrival {
	began := time.Now()
	var mu sync.Mutex
	var list []arrival
	w.send.poster.client.Transport = transport(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		list = append(list, arrival{time.Since(began), r.Header.Get(protocol.HeaderWebhookID), string(body), r.Header.Clone()})
		n := len(list)
		mu.Unlock()
		return fn(n)
	})
	return func() []arrival {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// TestSchedule: five attempts, at 0, and about 2, 4, 8 and 16 minutes after the one
// before; the same id and the same bytes each time (I14, seed S3).
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(500) })
		end := w.lead()
		synctest.Wait()
		id := w.ended("https://example.com/hook")
		pass(time.Hour)
		end()
		list := got()
		if len(list) != 5 {
			t.Fatalf("%d attempts, want 5", len(list))
		}
		if list[0].at != 0 {
			t.Errorf("the first attempt is %s after the end", list[0].at)
		}
		for i, want := range []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute} {
			if d := list[i+1].at - list[i].at; d < want*9/10 || d > want*11/10 {
				t.Errorf("attempt %d is %s after the one before, want about %s", i+2, d, want)
			}
		}
		for _, a := range list {
			if a.id != protocol.WebhookID(id, 1) || a.body != list[0].body || !strings.Contains(a.body, id.String()) {
				t.Errorf("sent %s with %s", a.id, a.body)
			}
		}
		if list[0].header.Get(protocol.HeaderWebhookTimestamp) == list[4].header.Get(protocol.HeaderWebhookTimestamp) {
			t.Error("the timestamp is not that of the attempt")
		}
		d := w.webhook(id)
		if d.State != protocol.DeliveryFailed || d.Attempt != 5 || len(d.Log) != 5 || d.Log[4].Status != 500 || d.Log[4].Error != "the receiver answered 500" {
			t.Errorf("the delivery is %+v", d)
		}
		if s := w.send.Stats(); s.Failed != 1 || s.Refused != 5 || s.Leads {
			t.Errorf("counted %+v", s)
		}
	})
}

// TestJitterSpreads: what one outage delayed does not come back at one moment.
func TestJitterSpreads(t *testing.T) {
	seen := make(map[time.Duration]bool)
	w := newWorld(t)
	for range 100 {
		d, ok := wait(w.send.waits, 1, &outcome{err: "x"}, w.send.draw)
		if !ok || d < 108*time.Second || d > 132*time.Second {
			t.Fatalf("waits %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d different waits of 100", len(seen))
	}
}

func TestAnswersDecide(t *testing.T) {
	for name, c := range map[string]struct {
		answer   func() (*http.Response, error)
		state    protocol.DeliveryState
		attempts int
		err      string
	}{
		"200":           {func() (*http.Response, error) { return answer(200) }, protocol.DeliveryDelivered, 1, ""},
		"202":           {func() (*http.Response, error) { return answer(202) }, protocol.DeliveryDelivered, 1, ""},
		"204":           {func() (*http.Response, error) { return answer(204) }, protocol.DeliveryDelivered, 1, ""},
		"301":           {func() (*http.Response, error) { return answer(301, "Location", "http://169.254.169.254/") }, protocol.DeliveryFailed, 5, "the receiver answered 301, and redirects are not followed"},
		"404":           {func() (*http.Response, error) { return answer(404) }, protocol.DeliveryFailed, 5, "the receiver answered 404"},
		"410":           {func() (*http.Response, error) { return answer(410) }, protocol.DeliveryDisabled, 1, "the receiver answered 410"},
		"broken":        {func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, protocol.DeliveryFailed, 5, "the receiver closed the connection without an answer"},
		"no web server": {func() (*http.Response, error) { return nil, errors.New("malformed") }, protocol.DeliveryFailed, 5, "the receiver did not answer as a web server"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.receiving(func(int) (*http.Response, error) { return c.answer() })
			defer w.lead()()
			id := w.ended("https://example.com/hook")
			pass(2 * time.Hour)
			d := w.webhook(id)
			if d.State != c.state || len(d.Log) != c.attempts || d.Log[0].Error != c.err {
				t.Errorf("%s: the delivery is %+v", name, d)
			}
		})
	}
}

// TestRetryAfter is honoured in both its forms, up to an hour, and never shortens
// the schedule.
func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"600": 10 * time.Minute, "86400": time.Hour, "5": 2 * time.Minute, "soon": 2 * time.Minute, "-1": 2 * time.Minute,
		"Sat, 01 Jan 2000 00:10:00 GMT": 10 * time.Minute, "Fri, 31 Dec 1999 00:00:00 GMT": 2 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) { // the bubble begins on 1 January 2000
			w := newWorld(t)
			w.send.draw = func(n int64) int64 { return n / 2 } // no jitter
			got := w.receiving(func(n int) (*http.Response, error) {
				if n == 1 {
					return answer(503, "Retry-After", header)
				}
				return answer(200)
			})
			defer w.lead()()
			w.ended("https://example.com/hook")
			pass(3 * time.Hour)
			if list := got(); len(list) != 2 || list[1].at != want {
				t.Errorf("%s: attempts at %+v, want the second after %s", header, list, want)
			}
		})
	}
}

// TestNextLeaderGoesOn: a leader that ends leaves nothing out; the next one goes on
// from the state, and repeats an attempt that was not recorded.
func TestNextLeaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		hang := make(chan struct{})
		got := w.receiving(func(n int) (*http.Response, error) {
			if n == 1 {
				<-hang
			}
			return answer(200)
		})
		w.send.poster.client.Transport = hanging{w.send.poster.client.Transport}
		end := w.lead()
		first := w.ended("https://example.com/hook")
		synctest.Wait()
		end() // in the middle of the attempt
		close(hang)
		second := w.ended("https://example.com/hook") // nobody leads
		synctest.Wait()
		if w.webhook(first).Attempt != 0 || w.webhook(second).Attempt != 0 || len(got()) != 1 {
			t.Fatalf("%d requests; recorded %+v", len(got()), w.webhook(first))
		}
		end = w.lead()
		synctest.Wait()
		end()
		for _, id := range []protocol.JobID{first, second} {
			if d := w.webhook(id); d.State != protocol.DeliveryDelivered || d.Attempt != 1 {
				t.Errorf("the delivery is %+v", d)
			}
		}
		if list := got(); len(list) != 3 || list[0].body != list[1].body && list[0].body != list[2].body {
			t.Errorf("%d requests, want the first one repeated with the same body", len(list))
		}
	})
}

// hanging is a transport that gives up with the request's context, as that of the
// network does.
type hanging struct{ to http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (h hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := h.to.RoundTrip(req)
		done <- result{resp, err}
	}()
	select {
	case r := <-done:
		return r.resp, r.err
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// TestLeaderWaitsForItsTime: what is pending is armed from the state, not sent at once.
func TestLeaderWaitsForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(500) })
		end := w.lead()
		w.ended("https://example.com/hook")
		synctest.Wait()
		end()
		pass(time.Minute)
		end = w.lead()
		defer func() { end() }()
		synctest.Wait()
		if n := len(got()); n != 1 {
			t.Fatalf("%d attempts after a minute, want 1", n)
		}
		pass(2 * time.Minute)
		if n := len(got()); n != 2 {
			t.Errorf("%d attempts after three minutes, want 2", n)
		}
	})
}

// TestHangingReceiverDelaysNobody: an organisation with hundreds of deliveries to
// receivers that never answer does not hold up others, nor its own other receivers.
func TestHangingReceiverDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		began := time.Now()
		var mu sync.Mutex
		var served []time.Duration
		most, flying := 0, 0
		w.send.poster.client.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "good.example" {
				mu.Lock()
				served = append(served, time.Since(began))
				mu.Unlock()
				return answer(200)
			}
			mu.Lock()
			flying++
			most = max(most, flying)
			mu.Unlock()
			<-r.Context().Done()
			mu.Lock()
			flying--
			mu.Unlock()
			return nil, r.Context().Err()
		})
		for range 300 {
			w.ended("https://hangs.example/hook")
		}
		for range 50 {
			w.ended("https://good.example/hook")
		}
		defer w.lead()()
		pass(time.Second)
		mu.Lock()
		if len(served) != 50 || slices.Max(served) > 100*time.Millisecond || most != maxLane {
			t.Errorf("%d of 50 were served, the last after %s; %d hang at a time", len(served), slices.Max(served), most)
		}
		mu.Unlock()
		pass(15 * time.Second)
		if d := w.webhook(protocol.JobID(id16(1))); d.Attempt != 1 || d.Log[0].Error != "the receiver did not answer within 15s" || d.Log[0].LatencyMs != 15_000 {
			t.Errorf("the delivery is %+v", d)
		}
	})
}

// TestRecordIsRepeated: an attempt that was made is recorded however long that takes,
// and not made again meanwhile.
func TestRecordIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(200) })
		var mu sync.Mutex
		fail := 10
		w.send.cfg.Propose = func(ctx context.Context, c ...*command.Command) ([]command.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			if fail--; fail >= 0 {
				return nil, errors.New("no majority")
			}
			return w.propose(ctx, c...)
		}
		defer w.lead()()
		id := w.ended("https://example.com/hook")
		pass(time.Minute)
		if d := w.webhook(id); d.State != protocol.DeliveryDelivered || len(got()) != 1 {
			t.Errorf("the delivery is %+v after %d requests", d, len(got()))
		}
	})
}

// TestAbsentOutput: a blob store that is away delays the attempt and counts nothing;
// an output that is gone ends the delivery.
func TestAbsentOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(200) })
		content := []byte(`"` + strings.Repeat("x", 100_000) + `"`)
		stored := w.stored(content)
		gone := w.completed("https://example.com/hook", &command.Payload{Sha256: make([]byte, 32), Size: 100_000})
		kept := w.completed("https://example.com/hook", stored)
		defer w.lead()()
		pass(time.Second)
		if d := w.webhook(gone); d.State != protocol.DeliveryFailed || d.Log[0].Error != "the output is not stored any more" {
			t.Errorf("the delivery is %+v", d)
		}
		if d := w.webhook(kept); d.State != protocol.DeliveryDelivered || len(got()) != 1 || !strings.Contains(got()[0].body, string(content)) {
			t.Errorf("the delivery is %+v", d)
		}
	})
}

// TestOldDeliveriesEnd: rows that are owed stay in memory, so none is for ever.
func TestOldDeliveriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(200) })
		id := w.ended("https://example.com/hook")
		pass(maxAge)
		defer w.lead()()
		synctest.Wait()
		if d := w.webhook(id); d.State != protocol.DeliveryFailed || len(got()) != 0 {
			t.Errorf("the delivery is %+v after %d requests", d, len(got()))
		}
	})
}

// TestNewRunStopsTheOld: a job that runs again has not ended; its next end is told.
func TestNewRunStopsTheOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(500) })
		defer w.lead()()
		id := w.ended("https://example.com/hook")
		synctest.Wait()
		w.ok(&command.Command{Op: &command.Command_Reopen{Reopen: &command.Reopen{Job: id[:], Org: protocol.OrgDefault, ExpectRun: 1}}})
		pass(time.Hour)
		if n := len(got()); n != 1 {
			t.Fatalf("%d attempts while the job runs again", n)
		}
		w.cancel(id)
		pass(time.Hour)
		if list := got(); len(list) != 6 || list[5].id != protocol.WebhookID(id, 2) {
			t.Errorf("%d attempts, the last of %s", len(list), list[len(list)-1].id)
		}
	})
}

// TestSecretIsMadeOnce: the first webhook of an organisation is signed, and with the
// secret that its owner asks for from then on.
func TestSecretIsMadeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(int) (*http.Response, error) { return answer(200) })
		defer w.lead()()
		for range 20 {
			w.ended("https://example.com/hook")
		}
		synctest.Wait()
		made := w.store.View().WebhookSecrets(protocol.OrgDefault)
		if len(made.List) != 1 || !made.List[0].Automatic || len(got()) != 20 {
			t.Fatalf("%d secrets after %d webhooks", len(made.List), len(got()))
		}
		own := NewSecret(protocol.OrgDefault, time.Now())
		w.ok(&command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: own}})
		w.ended("https://example.com/hook")
		synctest.Wait()
		last := got()[20]
		s := newSigner(last.id, time.Now().Unix(), w.store.View().WebhookSecrets(protocol.OrgDefault).List)
		if err := s.read(strings.NewReader(last.body)); err != nil {
			t.Fatal(err)
		}
		want := make(http.Header)
		s.header(want)
		for name := range want {
			if last.header.Get(name) != want.Get(name) {
				t.Errorf("%s is %s, want %s", name, last.header.Get(name), want.Get(name))
			}
		}
	})
}

// TestTestEvents are signed, attempted once and bounded.
func TestTestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := w.receiving(func(n int) (*http.Response, error) { return answer(418) })
		r, err := w.send.Test(t.Context(), protocol.OrgDefault, "https://example.com/hook")
		if err != nil || r.Delivered || r.Status != 418 || r.Error != "the receiver answered 418" {
			t.Fatalf("%+v, %v", r, err)
		}
		if a := got()[0]; a.body != `{"type":"webhook.test","timestamp":"2000-01-01T00:00:00.000Z"}` || a.id != r.WebhookID ||
			a.header.Get(protocol.HeaderWebhookSignature) == "" || a.header.Get("User-Agent") != "Windlass/test" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("sent %+v", a)
		}
		for range maxTests {
			w.send.tests <- struct{}{}
		}
		if _, err := w.send.Test(t.Context(), protocol.OrgDefault, "https://example.com/hook"); protocol.CodeOf(err) != protocol.CodeRateLimit {
			t.Errorf("the test above the bound: %v", err)
		}
	})
}
