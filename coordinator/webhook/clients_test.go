//go:build clients

package webhook

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// question is a webhook as it came, for a program that verifies it: as it is, with
// another body, and with a secret that never signed.
type question struct {
	Body    string            `json:"body"`
	Headers map[string]string `json:"headers"` // names in lower case
	Secret  string            `json:"secret"`
	Other   string            `json:"other"`
}

// caught are webhooks that came over the wire: one of a single secret, and of two of
// which each must verify; older says which the seed's header is of.
type caught struct {
	question
	name  string
	older bool
}

func (w *world) secretText(i int) string {
	return protocol.SecretText(w.store.View().WebhookSecrets(protocol.OrgDefault).List[i].Key)
}

func catch(t *testing.T) []caught {
	w := newWorld(t)
	got := make(chan question, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		q := question{Body: string(body), Headers: make(map[string]string)}
		for name := range r.Header {
			q.Headers[strings.ToLower(name)] = r.Header.Get(name)
		}
		got <- q
	}))
	defer server.Close()
	put := func(rotate bool) {
		p := NewSecret(protocol.OrgDefault, time.Now())
		p.Rotate, p.OverlapMs = rotate, time.Hour.Milliseconds()
		w.ok(&command.Command{Op: &command.Command_PutWebhookSecret{PutWebhookSecret: p}})
	}
	defer w.lead()()
	send := func(output string) question {
		w.completed(server.URL+"/hook", &command.Payload{Inline: []byte(output)})
		q := <-got
		q.Other = protocol.SecretText(bytes.Repeat([]byte{1}, 32))
		return q
	}
	put(false)
	one := send(`{ "text": "naïve \u0041 <b> 😀" }`)
	one.Secret = w.secretText(0)
	put(true)
	two := send(`{"pages":50}`)
	older, newer := two, two
	older.Secret, newer.Secret = w.secretText(0), w.secretText(1)
	return []caught{{one, "one secret", true}, {older, "the older of two", true}, {newer, "the newer of two", false}}
}

// verifies runs a program that answers questions, and wants its verdicts.
func verifies(t *testing.T, dir string, seed bool, name string, args ...string) {
	t.Helper()
	for _, c := range catch(t) {
		in, err := json.Marshal(c.question)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, stderr.String())
		}
		want := "true false false"
		if seed && !c.older {
			want = "false false false"
		}
		if got := strings.ToLower(strings.TrimSpace(string(out))); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSeedVerifies runs the function of seed S0 as it stands there; its text has
// lost the indentation of its body.
func TestSeedVerifies(t *testing.T) {
	raw, err := os.ReadFile("testdata/s0-verify.txt")
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(raw), "secret):\n")
	if !ok {
		t.Fatal("the seed has another function")
	}
	code := head + "secret):\n    " + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n    ") + "\n" + `
import json, sys
q = json.load(sys.stdin)
s = q["headers"]["x-webhook-signature"]
print(verify_webhook(q["body"], s, q["secret"]), verify_webhook(q["body"] + " ", s, q["secret"]), verify_webhook(q["body"], s, q["other"]))
`
	verifies(t, t.TempDir(), true, "python3", write(t, t.TempDir(), "s0.py", code))
}

// TestStandardLibraryVerifies: the reference library of Standard Webhooks.
func TestStandardLibraryVerifies(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "package.json", `{"name":"receiver","private":true,"type":"module"}`)
	install := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "standardwebhooks@1.1.1")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("cannot install: %v\n%s", err, out)
	}
	write(t, dir, "verify.js", `
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";
const q = JSON.parse(readFileSync(0, "utf8"));
const ok = (secret, body) => {
  try { new Webhook(secret).verify(body, q.headers); return true; } catch { return false; }
};
console.log(ok(q.secret, q.body), ok(q.secret, q.body + " "), ok(q.other, q.body));
`)
	verifies(t, dir, false, "node", "verify.js")
}

// snippet returns the code block of docs/webhooks.md in a language.
func snippet(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n```"+language+"\n")
	code, _, ok2 := strings.Cut(rest, "\n```")
	if !ok || !ok2 {
		t.Fatalf("the page has no code in %s", language)
	}
	return code + "\n"
}

func TestGuideVerifiesInPython(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "verify.py", snippet(t, "python")+`
import json, sys
q = json.load(sys.stdin)
body, h = q["body"].encode(), q["headers"]
print(verify(body, h, q["secret"]), verify(body + b" ", h, q["secret"]), verify(body, h, q["other"]))
old = dict(h, **{"webhook-timestamp": str(int(h["webhook-timestamp"]) - 301)})
assert not verify(body, old, q["secret"]), "an old timestamp is taken"
`)
	verifies(t, dir, false, "python3", "verify.py")
}

func TestGuideVerifiesInJavaScript(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "verify.mjs", snippet(t, "javascript")+`
import { readFileSync } from "node:fs";
const q = JSON.parse(readFileSync(0, "utf8")), body = Buffer.from(q.body);
console.log(verify(body, q.headers, q.secret), verify(Buffer.from(q.body + " "), q.headers, q.secret), verify(body, q.headers, q.other));
if (verify(body, { ...q.headers, "webhook-timestamp": "x" }, q.secret)) throw new Error("a timestamp that is none is taken");
`)
	verifies(t, dir, false, "node", "verify.mjs")
}

func TestGuideVerifiesInGo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module receiver\n\ngo 1.26\n")
	write(t, dir, "main.go", `package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

`+snippet(t, "go")+`
func main() {
	var q struct {
		Body, Secret, Other string
		Headers             map[string]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		panic(err)
	}
	h := make(http.Header)
	for k, v := range q.Headers {
		h.Set(k, v)
	}
	fmt.Println(verify([]byte(q.Body), h, q.Secret), verify([]byte(q.Body+" "), h, q.Secret), verify([]byte(q.Body), h, q.Other))
}
`)
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "verify", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	verifies(t, dir, false, filepath.Join(dir, "verify"))
}
