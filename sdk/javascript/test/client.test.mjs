import assert from "node:assert/strict";
import { test } from "node:test";
import tensorone, { NotFoundError, QueueFullError, RateLimitError, TensorOneClient, TimeoutError, UnavailableError, ValidationError } from "../dist/index.js";
import { json, serve } from "./server.mjs";

const fast = { apiKey: "test-key-of-sixteen", maxRetries: 3 };
const submitted = { jobId: "job_1", taskId: "job_1", status: "queued", endpointId: "ep_x", priority: "normal", createdAt: "2026-01-01T00:00:00.000Z", statusUrl: "http://x" };

test("a submit that is repeated carries the same key", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response, body, n) => {
    if (n === 1) return request.socket.destroy();
    if (n === 2) return json(response, 503, { error: "NO_LEADER", message: "none", details: { outcome: "unknown", jobId: "job_1" } });
    json(response, 200, submitted);
  });
  const client = new TensorOneClient({ ...fast, baseUrl: `${baseUrl}/v2` });
  const job = await client.endpoints.executeAsync("ep_x", { input: { prompt: "Hi" } });
  assert.equal(job.jobId, "job_1");
  assert.equal(requests.length, 3);
  assert.equal(requests[0].url, "/v2/endpoints/ep_x/runasync");
  assert.equal(requests[0].headers.authorization, "Bearer test-key-of-sixteen");
  assert.ok(requests[0].headers["idempotency-key"]);
  assert.equal(new Set(requests.map((r) => r.headers["idempotency-key"])).size, 1);
});

test("a caller's own key is used", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response) => json(response, 200, submitted));
  await new TensorOneClient({ ...fast, baseUrl }).endpoints.executeAsync("ep_x", { input: {}, idempotencyKey: "mine" });
  assert.equal(requests[0].headers["idempotency-key"], "mine");
});

test("a job's retry is not repeated after an answer that may have had an effect", async (t) => {
  const { baseUrl, requests } = await serve(t, (request) => request.socket.destroy());
  await assert.rejects(new TensorOneClient({ ...fast, baseUrl }).jobs.retry("job_1"));
  assert.equal(requests.length, 1);
});

test("Retry-After is obeyed, and a long one is the caller's", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response, body, n) => {
    if (n === 1) return json(response, 429, { error: "RATE_LIMIT_EXCEEDED", message: "slow", details: { limit: 100, window: "1m", retryAfter: 1 } });
    json(response, 429, { error: "QUEUE_FULL", message: "full", details: { queueSize: 1000, retryAfter: 60 } });
  });
  const begin = Date.now();
  const error = await new TensorOneClient({ ...fast, baseUrl }).jobs.getStatus("job_1").catch((e) => e);
  assert.ok(error instanceof QueueFullError);
  assert.equal(error.details.queueSize, 1000);
  assert.equal(error.retryAfter, 60);
  assert.equal(requests.length, 2);
  assert.ok(Date.now() - begin >= 1000);
});

test("errors have a class, a code and details", async (t) => {
  const bodies = {
    404: { error: "JOB_NOT_FOUND", message: "Job job_x does not exist or has expired", details: { jobId: "job_x" }, requestId: "req_1" },
    422: { error: "VALIDATION_ERROR", message: "Invalid input parameters", details: { field: "input.pages" } },
    429: { error: "RATE_LIMIT_EXCEEDED", message: "m", details: {} },
    503: { error: "NO_LEADER", message: "m" },
  };
  const { baseUrl } = await serve(t, (request, response) => {
    const status = Number(request.url.match(/jobs\/(\d+)/)[1]);
    json(response, status, bodies[status]);
  });
  const client = new TensorOneClient({ ...fast, maxRetries: 0, baseUrl });
  for (const [status, kind] of [[404, NotFoundError], [422, ValidationError], [429, RateLimitError], [503, UnavailableError]]) {
    const error = await client.jobs.getStatus(String(status)).catch((e) => e);
    assert.ok(error instanceof kind, `${status}: ${error}`);
    assert.equal(error.code, bodies[status].error);
    assert.equal(error.message, bodies[status].message);
  }
});

test("another address is asked when one is gone", async (t) => {
  const { baseUrl } = await serve(t, (request, response) => json(response, 200, { jobId: "job_1", status: "running", revision: "1" }));
  const client = new TensorOneClient({ ...fast, baseUrl: `http://127.0.0.1:1,${baseUrl}` });
  assert.equal((await client.jobs.getStatus("job_1")).status, "running");
});

test("a broken stream goes on where it was and ends after the terminal state", async (t) => {
  const frame = (id, document) => `id: ${id}\nevent: status\ndata: ${JSON.stringify(document)}\n\n`;
  const { baseUrl, requests } = await serve(t, (request, response, body, n) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (n === 1) {
      response.write(": hello\n\n" + frame("1.1.0", { jobId: "j", status: "running", progress: 10 }));
      return setTimeout(() => request.socket.destroy(), 50);
    }
    response.write(`id: 2.1.0\nevent: output\ndata: {"seq":0}\n\n`);
    response.end(frame("3.1.0", { jobId: "j", status: "completed", progress: 100, output: { text: "ü" } }));
  });
  const seen = [];
  for await (const update of new TensorOneClient({ ...fast, baseUrl }).jobs.watchStatus("j")) seen.push(update);
  assert.deepEqual(seen.map((s) => s.progress), [10, 100]);
  assert.equal(seen[1].output.text, "ü");
  assert.equal(seen[1].done, true);
  assert.equal(requests[1].headers["last-event-id"], "1.1.0");
});

test("leaving the loop closes the stream, 204 ends it, 404 is an error", async (t) => {
  let closed;
  const gone = new Promise((resolve) => (closed = resolve));
  const { baseUrl } = await serve(t, (request, response) => {
    if (request.url.includes("ended")) return response.writeHead(204).end();
    if (request.url.includes("nobody")) return json(response, 404, { error: "JOB_NOT_FOUND", message: "m" });
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`data: {}\nevent: status\n\n`);
    request.socket.on("close", closed);
  });
  const { jobs } = new TensorOneClient({ ...fast, baseUrl });
  for await (const update of jobs.streamStatus("ended")) assert.fail(JSON.stringify(update));
  await assert.rejects(async () => { for await (const update of jobs.streamStatus("nobody")) assert.fail(JSON.stringify(update)); }, NotFoundError);
  for await (const update of jobs.watchStatus("j")) { assert.ok(update); break; }
  await gone;
});

test("a batch is an array with errors beside it", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response) =>
    json(response, 200, { jobs: [{ jobId: "a", status: "completed" }], errors: [{ jobId: "b", error: "JOB_NOT_FOUND", message: "m" }] }));
  const statuses = await new TensorOneClient({ ...fast, baseUrl }).jobs.getBatchStatus({ jobIds: ["a", "b"], include: ["metrics"] });
  assert.ok(Array.isArray(statuses));
  assert.equal(statuses.length, 1);
  assert.equal(statuses.errors[0].jobId, "b");
  assert.deepEqual(JSON.parse(requests[0].body), { jobIds: ["a", "b"], include: ["metrics"] });
});

test("wait holds at the server and gives up in time", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response) => json(response, 200, { jobId: "j", status: "running", revision: "7.1.2" }));
  await assert.rejects(new TensorOneClient({ ...fast, baseUrl }).jobs.wait("j", { timeout: 30 }), TimeoutError);
  assert.match(requests[0].url, /wait=1s/);
  assert.match(requests.at(-1).url, requests.length > 1 ? /revision=7.1.2/ : /wait/);
});

test("the third look at an ended job is warned of once", async (t) => {
  const { baseUrl } = await serve(t, (request, response) => json(response, 200, { jobId: "j", status: "timeout" }));
  const { jobs } = new TensorOneClient({ ...fast, baseUrl });
  const lines = [];
  t.mock.method(console, "warn", (line) => lines.push(line));
  for (let i = 0; i < 6; i++) await jobs.getStatus("j");
  assert.equal(lines.length, 1);
  assert.match(lines[0], /status\.done/);
});

test("the classic dialect: timeouts, drained streams, one answer per wait", async (t) => {
  const { baseUrl, requests } = await serve(t, (request, response) => {
    if (request.url.includes("/stream/")) {
      const first = requests.filter((r) => r.url.includes("/stream/")).length === 1;
      return json(response, 200, { status: first ? "IN_PROGRESS" : "COMPLETED", stream: [{ output: first ? "a" : "b" }] });
    }
    if (request.url.includes("/status-sync/")) return json(response, 200, { id: "job_1", status: "COMPLETED", output: 1 });
    json(response, 200, { id: "job_1", status: "IN_QUEUE" });
  });
  const endpoint = tensorone("test-key-of-sixteen", { baseUrl }).endpoint("ep_x");
  const job = await endpoint.run({ input: 1 }, 5000);
  assert.equal(job.jobId, "job_1");
  assert.equal(JSON.parse(requests[0].body).policy.executionTimeout, 5000);
  await endpoint.run({ input: 1, policy: { executionTimeout: 7000 } }, 5000);
  assert.equal(JSON.parse(requests[1].body).policy.executionTimeout, 7000);
  assert.equal((await endpoint.runSync({ input: 1 })).status, "COMPLETED");
  assert.match(requests[2].url, /\/v2\/ep_x\/runsync\?wait=90000$/);
  const items = [];
  for await (const item of endpoint.stream("job_1")) items.push(item.output);
  assert.deepEqual(items, ["a", "b"]);
});

test("bad settings say what to do", () => {
  assert.throws(() => new TensorOneClient({ apiKey: "k", baseUrl: "localhost:7400" }), /http:\/\//);
  assert.throws(() => new TensorOneClient({ apiKey: "k" }).endpoint(undefined), /ENDPOINT_ID/);
  const kept = process.env.TENSORONE_API_KEY;
  delete process.env.TENSORONE_API_KEY;
  try {
    assert.throws(() => new TensorOneClient(), /TENSORONE_API_KEY/);
  } finally {
    if (kept !== undefined) process.env.TENSORONE_API_KEY = kept;
  }
});

test("a caller's signal ends a call and a stream", async (t) => {
  const { baseUrl } = await serve(t, () => undefined);
  const { jobs } = new TensorOneClient({ ...fast, baseUrl });
  await assert.rejects(jobs.getStatus("j", { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
  await assert.rejects(async () => { for await (const update of jobs.watchStatus("j", { signal: AbortSignal.timeout(20) })) assert.fail(JSON.stringify(update)); }, { name: "TimeoutError" });
});
