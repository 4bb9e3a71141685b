//go:build clients

package sdk

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"windlass/protocol"
)

// The job that the snippets of S2 name; a test puts its own in its place.
const seedJob = "job_1234567890abcdef"

// program writes a program into a folder and runs it.
func program(t *testing.T, dir string, env []string, interpreter, name, code string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, dir, env, interpreter, name)
}

// expect fails unless every text is in the output.
func expect(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in:\n%s", text, out)
		}
	}
}

// submit starts a job that runs for some seconds and returns its id.
func (d *dev) submit(t *testing.T, endpoint, input string) string {
	t.Helper()
	c := d.client(t)
	defer c.Close()
	job, err := c.Submit(t.Context(), endpoint, protocol.SubmitRequest{Input: json.RawMessage(input)})
	if err != nil {
		t.Fatal(err)
	}
	return job.JobID.String()
}

const slowEcho = `{"sleep": 3, "answer": 42}`

// The endpoint that S0's JavaScript names and windlass dev does not serve.
const dataProcessor = `kind: Endpoint
id: ep_data_processor
runtime: {kind: builtin, handler: echo}
resources: {cpu: true}
`

func TestSeedSnippetsNative(t *testing.T) {
	d := startDev(t)
	t.Run("S0 Python", func(t *testing.T) {
		code := between(t, seed(t, "S0-run-async.txt"), "Python SDK", "JavaScript SDK")
		code = indented(t, code, "00000"+"11"+"222"+"111"+"0000"+"111"+"21"+"0101")
		out := program(t, t.TempDir(), d.env(), wheel(t), "s0.py", code)
		expect(t, out, "Job submitted: job_", "Status: completed, Progress: 100", "Job completed! Output: {'result':")
	})
	t.Run("S2 Python", func(t *testing.T) {
		code := between(t, seed(t, "S2-job-status.txt"), "Python SDK", "JavaScript SDK")
		job := d.submit(t, "ep_echo", slowEcho)
		out := program(t, t.TempDir(), d.env(), wheel(t), "s2.py", replaced(t, code, seedJob, job))
		expect(t, out, "Job "+job+": ", "Progress: ", "Job completed! Output: {'sleep': 3, 'answer': 42}")
	})
	dir := project(t)
	t.Run("S0 JavaScript", func(t *testing.T) {
		d.apply(t, dataProcessor)
		code := between(t, seed(t, "S0-run-async.txt"), "JavaScript SDK", "Use Cases")
		out := program(t, dir, d.env(), "node", "s0.mjs", code+"await processLargeDataset();\n")
		expect(t, out, "Job submitted: job_", "Progress: ", "Analysis complete!", "large-dataset.csv")
	})
	t.Run("S2 JavaScript", func(t *testing.T) {
		code := between(t, seed(t, "S2-job-status.txt"), "JavaScript SDK", "Use Cases")
		job := d.submit(t, "ep_echo", slowEcho)
		out := program(t, dir, d.env(), "node", "s2.mjs", replaced(t, code, seedJob, job))
		expect(t, out, "Job "+job+": ", "Job completed!", "Duration: ")
		if strings.Contains(out, "Error monitoring job") {
			t.Errorf("the snippet met an error:\n%s", out)
		}
	})
}

// The blocks of S1: their heading, the heading after it, and what they print.
var classicBlocks = []struct {
	heading, next string
	prints        []string
}{
	{"Synchronous Execution", "Asynchronous Execution", []string{"status: 'COMPLETED'", "executionTime:", "output: {"}},
	{"Asynchronous Execution", "Polling Status", []string{"status: 'IN_QUEUE'", "id: 'job_"}},
	{"Polling Status of an Asynchronous Run", "Streaming Output", []string{"Status: COMPLETED", "Output: {"}},
	{"Streaming Output", "Check Endpoint Health", []string{`"output":`}},
	{"Check Endpoint Health", "Check Status of a Job", []string{"inQueue:", "workers:", "idle:"}},
	{"Check Status of a Job", "Cancel a Job", []string{"status: 'IN_"}},
	{"Cancel a Job", "Set a Timeout", []string{"status: 'CANCELLED'"}},
	{"Set a Timeout for Execution", "Set an Execution Policy", []string{"status: 'IN_QUEUE'"}},
	{"Set an Execution Policy", "Purge Queue", []string{"status: 'IN_QUEUE'"}},
	{"Purge Queue", "Use these methods", []string{"removed:", "status: 'completed'"}},
}

func TestSeedSnippetsClassic(t *testing.T) {
	d := startDev(t)
	dir := project(t)
	text := seed(t, "S1-javascript-endpoints.txt")
	setup := fromLine(t, between(t, text, "- Set your Endpoint ID", "Run the Endpoint"), "import ")
	for _, b := range classicBlocks {
		t.Run(b.heading, func(t *testing.T) {
			code := setup + fromLine(t, between(t, text, b.heading, b.next), "const ")
			out := program(t, dir, d.env("ENDPOINT_ID=ep_story"), "node", "s1.mjs", code)
			expect(t, out, b.prints...)
		})
	}
}

// TestSeedVerifiers runs S0's receiver and both clients against one body: what
// the server signs is held to the same vectors in coordinator/webhook.
func TestSeedVerifiers(t *testing.T) {
	code := between(t, seed(t, "S0-run-async.txt"), "Verify webhook authenticity using the signature header:", "Error Handling")
	code = indented(t, code, "000"+"1"+"222"+"1"+"1")
	code += `
from tensorone import verify_webhook
body, secret = '{"jobId":"job_1"}', "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
signature = "sha256=" + hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest()
assert verify_webhook(body, {"X-Webhook-Signature": signature}, secret)["jobId"] == "job_1"
`
	// The page's function and the client's have one name: the first stays reachable.
	code = strings.Replace(code, "from tensorone import", "seed_verify = verify_webhook\nfrom tensorone import", 1)
	code += "assert seed_verify(body, signature, secret) and not seed_verify(body + ' ', signature, secret)\nprint('verified')\n"
	expect(t, program(t, t.TempDir(), nil, wheel(t), "verify.py", code), "verified")
}
