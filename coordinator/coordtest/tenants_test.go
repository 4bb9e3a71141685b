package coordtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"windlass/coordinator"
	"windlass/coordinator/api"
	"windlass/protocol"
	"windlass/protocol/client"
)

// everything is what an organisation gives its own people.
func everything() []protocol.Permission {
	return []protocol.Permission{"agents:manage", "endpoints:execute", "endpoints:write", "jobs:read", "jobs:write", "keys:manage"}
}

// unlimited turns the limits of requests off.
func unlimited(c *coordinator.Config) { c.Limits = coordinator.LimitsConfig{} }

// newTenant makes an organisation with a key, and a client that uses it.
func newTenant(t *testing.T, p *Peers, org string) (string, *client.Client) {
	t.Helper()
	p.Await("organisations can be made", func(ctx context.Context) bool {
		_, err := p.Client.CreateOrg(ctx, protocol.Org{ID: org, Weight: 1})
		return err == nil
	})
	key, err := p.Client.CreateKey(t.Context(), protocol.KeyRequest{Org: org, Permissions: everything()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Addrs: p.URLs(), Key: key.Key, HTTP: &http.Client{Transport: client.NewTransport()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return key.Key, c
}

// things are ids by what they name.
type things map[string]string

// victim is an organisation with one of everything.
type victim struct {
	client *client.Client
	jobs   []protocol.JobID
	things []things // one set for each job
}

func newVictim(t *testing.T, p *Peers) *victim {
	t.Helper()
	_, c := newTenant(t, p, "org_alpha")
	v := &victim{client: c}
	for _, kind := range []string{"builtin", "command"} {
		doc := protocol.Endpoint{Kind: "Endpoint", ID: "ep_secret_" + kind, Runtime: protocol.RuntimeSpec{Kind: kind, Command: []string{"x"}}}
		if _, err := c.ApplyEndpoint(t.Context(), doc); err != nil {
			t.Fatal(err)
		}
	}
	w := startWorkerOf(t, p, c)
	input := json.RawMessage(`{"pad":"` + strings.Repeat("x", 2*protocol.InlineInput) + `"}`)
	sum := sha256.Sum256(input)
	add := func(endpoint string, status protocol.Status) {
		t.Helper()
		r, err := c.Submit(t.Context(), endpoint, protocol.SubmitRequest{Input: input, IdempotencyKey: "alpha_" + status.String()})
		if err != nil {
			t.Fatal(err)
		}
		v.jobs = append(v.jobs, r.JobID)
		if status == protocol.StatusCompleted {
			p.Await("a job is taken", func(context.Context) bool { return len(w.attempts()) > 0 })
			w.finish()
		}
		p.Await("a job is "+status.String(), func(ctx context.Context) bool {
			s, err := c.Status(ctx, r.JobID, client.StatusOptions{})
			return err == nil && s.Status == status
		})
	}
	add("ep_secret_builtin", protocol.StatusCompleted)
	add("ep_secret_command", protocol.StatusQueued)
	add("ep_secret_builtin", protocol.StatusRunning)
	key, err := c.CreateKey(t.Context(), protocol.KeyRequest{Permissions: everything(), Name: "spare"})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := c.CreateWebhookSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range v.jobs {
		v.things = append(v.things, things{
			"job": id.String(), "endpoint": "ep_secret_builtin", "org": "org_alpha", "key": key.ID, "blob": hex.EncodeToString(sum[:]), "agent": w.id.String(),
			"secret": secret.ID.String(),
		})
	}
	return v
}

// unknown are ids of the same form that nobody has. The job's is as old as another.
func unknown(job protocol.JobID) things {
	return things{
		"job": protocol.NewJobID(job.CreatedAt().Std()).String(), "endpoint": "ep_nobody_builtin", "org": "org_omega",
		"key": protocol.NewKeyID(time.Now()).String(), "blob": strings.Repeat("5a", 32), "agent": protocol.NewAgentID(time.Now()).String(),
		"secret": protocol.NewSecretID(time.Now()).String(),
	}
}

// spy asks one coordinator for the things of others.
type spy struct {
	t     *testing.T
	node  *Node
	key   string
	agent protocol.AgentID
	life  protocol.Incarnation
	seq   atomic.Uint64
	http  *http.Client
}

func newSpy(t *testing.T, p *Peers, node *Node, org string) *spy {
	t.Helper()
	key, c := newTenant(t, p, org)
	s := &spy{t: t, node: node, key: key, agent: protocol.NewAgentID(time.Now()), life: protocol.NewIncarnation(time.Now()), http: &http.Client{Timeout: settle}}
	_, err := c.Register(t.Context(), protocol.RegisterRequest{Agent: s.agent, Name: "spy", Incarnation: s.life, Facts: protocol.AgentFacts{Slots: 1, Kinds: []string{"builtin"}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// bodies are what a request may say; $x is an id.
func bodies(method string) []string {
	if method == http.MethodGet {
		return []string{""}
	}
	const held = `"agent":"$me","incarnation":"$life","seq":$seq,"holdMs":1,"relay":true,"held":[{"job":"$job","attempt":1}]`
	return []string{
		"", "{}", `{"input":{}}`, `{"jobIds":["$job"],"include":["logs","metrics"]}`, `{"org":"$org","permissions":["jobs:read"]}`,
		`{` + held + `}`, `{` + held + `,"rejected":[{"job":"$job","attempt":1,"reason":"x"}]}`,
		`{"agent":"$me","incarnation":"$life","relay":true,"held":[],"attempts":[{"job":"$job","attempt":1,"seq":1}],"finished":[{"job":"$job","attempt":1,"outcome":"completed","output":{}}]}`,
		`{"agent":"$agent","incarnation":"$life","seq":$seq,"holdMs":1,"relay":true,"held":[]}`,
	}
}

func queries() []string {
	return []string{
		"", "?consistency=stale", "?wait=10ms&revision=0.0.0", "?include=logs,metrics,resources", "?format=summary", "?endpoint=$endpoint",
		"?idempotencyKey=alpha_queued", "?org=$org", "?job=$job", "?overlap=1h",
	}
}

// answers says what a request for the things led to, without their ids.
func (s *spy) answer(method, path, body string, of things) string {
	s.t.Helper()
	pairs := []string{"$me", s.agent.String(), "$life", s.life.String(), "$seq", strconv.FormatUint(s.seq.Add(1), 10)}
	back := []string{}
	for name, id := range of {
		pairs, back = append(pairs, "$"+name, id), append(back, id, "$"+name)
	}
	fill := strings.NewReplacer(pairs...)
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.node.URL+fill.Replace(path), strings.NewReader(fill.Replace(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set(protocol.HeaderRequestID, "spy")
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	var out bytes.Buffer
	out.WriteString(resp.Status + "\n")
	for _, name := range []string{"Date", protocol.HeaderAge, protocol.HeaderIndex} {
		resp.Header.Del(name) // of the moment
	}
	_ = resp.Header.Write(&out)
	out.Write(raw)
	text := strings.NewReplacer(back...).Replace(out.String())
	// Jittered times, and the number of a sync.
	return regexp.MustCompile(`"(holdMs|spreadMs|parkedMs|seq)":\d+|Content-Length: \d+`).ReplaceAllString(text, "$1")
}

// paths fills a pattern's parameters with every kind of thing.
func paths(pattern string) []string {
	params := regexp.MustCompile(`\{[^}]*\}`).FindAllString(pattern, -1)
	out := []string{pattern}
	for _, param := range params {
		var next []string
		for _, p := range out {
			for _, kind := range []string{"job", "endpoint", "org", "key", "blob", "agent", "secret"} {
				next = append(next, strings.Replace(p, param, "$"+kind, 1))
			}
		}
		out = next
	}
	return out
}

// TestOtherOrganisationsAreUnknown is promise I21: whatever a key asks for that is
// another organisation's, on every route of the table, is answered byte for byte
// like what never was, by the leader and through a follower.
//
// One answer must differ: an agent's id that is registered cannot be registered
// once more. It is 80 random bits that only its own organisation sees.
func TestOtherOrganisationsAreUnknown(t *testing.T) {
	p := StartPeersWith(t, 3, unlimited)
	v := newVictim(t, p)
	for name, node := range map[string]*Node{"leader": p.Leader(), "follower": p.Followers()[0]} {
		s := newSpy(t, p, node, "org_"+name)
		asked := 0
		for _, r := range api.Routes() {
			if r.Permission == "" || r.Operation == "createWebhookSecret" || r.Operation == "rotateWebhookSecret" {
				continue // the last two name nothing, and change what the spy itself has
			}
			for _, path := range paths(r.Pattern) {
				for _, query := range queries() {
					for _, body := range bodies(r.Method) {
						if query != "" && body != "" || r.Operation == "agentRegister" && strings.Contains(body, "$agent") {
							continue
						}
						if !strings.Contains(path+query+body, "$") && r.Operation != "listAgents" {
							continue
						}
						for i, foreign := range v.things {
							asked++
							want := s.answer(r.Method, path+query, body, unknown(v.jobs[i]))
							if got := s.answer(r.Method, path+query, body, foreign); got != want {
								t.Errorf("%s: %s %s%s %s\n%s\nof what never was:\n%s", name, r.Method, path, query, body, got, want)
							}
							for kind, id := range foreign {
								if strings.Contains(want, id) {
									t.Errorf("%s: %s %s%s %s shows a %s of others:\n%s", name, r.Method, path, query, body, kind, want)
								}
							}
						}
					}
				}
			}
		}
		t.Logf("%s: %d questions", name, asked)
	}
	v.untouched(t)
}

// untouched checks that nothing that was tried had an effect.
func (v *victim) untouched(t *testing.T) {
	t.Helper()
	for i, want := range []protocol.Status{protocol.StatusCompleted, protocol.StatusQueued, protocol.StatusRunning} {
		if s, err := v.client.Status(t.Context(), v.jobs[i], client.StatusOptions{}); err != nil || s.Status != want {
			t.Errorf("job %d is %+v, %v, want %s", i, s, err, want)
		}
	}
	keys, err := v.client.Keys(t.Context(), "")
	if err != nil || slices.ContainsFunc(keys, func(k protocol.Key) bool { return k.Status != protocol.KeyActive }) {
		t.Errorf("keys: %+v, %v", keys, err)
	}
	if e, err := v.client.Endpoints(t.Context()); err != nil || len(e) != 2 {
		t.Errorf("endpoints: %+v, %v", e, err)
	}
	if a, err := v.client.Agents(t.Context()); err != nil || len(a) != 1 || a[0].Name != "worker" {
		t.Errorf("agents: %+v, %v", a, err)
	}
}

// TestKeysOpenEverywhere: a key is known at every coordinator as soon as it was
// told, and unknown at each that has applied its end.
func TestKeysOpenEverywhere(t *testing.T) {
	p := StartPeersWith(t, 3, unlimited)
	followers := p.Followers()
	p.Await("keys can be made", func(ctx context.Context) bool {
		_, err := p.Client.CreateOrg(ctx, protocol.Org{ID: "org_a", Weight: 1})
		return err == nil
	})
	for range 5 {
		key, err := followers[0].Client.CreateKey(t.Context(), protocol.KeyRequest{Org: "org_a", Permissions: everything()})
		if err != nil {
			t.Fatal(err)
		}
		status := func(n *Node, text string) int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL+"/v2/keys/self", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", text)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		for _, n := range p.Nodes {
			if got := status(n, key.Key); got != http.StatusOK {
				t.Errorf("a new key at %s: %d", n.URL, got)
			}
		}
		turned, err := p.Client.RotateKey(t.Context(), key.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Nodes {
			if got := status(n, turned.Key); got != http.StatusOK {
				t.Errorf("a new text at %s: %d", n.URL, got)
			}
		}
		if _, err := followers[1].Client.RevokeKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		for _, n := range p.Nodes {
			p.Await("the key is unknown", func(context.Context) bool { return status(n, turned.Key) == http.StatusUnauthorized })
		}
	}
}

// TestLimitsAreOfTheCluster: what is asked of one coordinator counts at the others.
func TestLimitsAreOfTheCluster(t *testing.T) {
	p := StartPeersWith(t, 3, func(c *coordinator.Config) { c.Limits = coordinator.LimitsConfig{Status: 1, Submit: 1} })
	text, _ := newTenant(t, p, "org_a")
	ask := func(n *Node, method, path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, strings.NewReader(`{"input":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", text)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	job := "/v2/jobs/" + protocol.NewJobID(time.Now()).String() + "/status"
	first := p.Followers()[0]
	// The job is the leader's to answer, and is counted once although it is relayed.
	if r := ask(first, http.MethodGet, job); r.StatusCode != http.StatusNotFound || r.Header.Get("RateLimit-Policy") != `"status";q=1;w=60` {
		t.Errorf("the first one: %s, %q", r.Status, r.Header.Get("RateLimit-Policy"))
	}
	if r := ask(first, http.MethodPost, "/v2/endpoints/ep/runasync"); r.StatusCode != http.StatusNotFound {
		t.Errorf("the first submit: %s", r.Status)
	}
	for _, n := range p.Nodes {
		if r := ask(n, http.MethodGet, job); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
			t.Errorf("one more at %s: %s", n.URL, r.Status)
		}
		if r := ask(n, http.MethodPost, "/v2/endpoints/ep/runasync"); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("one more submit at %s: %s", n.URL, r.Status)
		}
	}
}
