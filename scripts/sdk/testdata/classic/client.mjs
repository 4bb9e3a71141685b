// Every operation of the npm package runpod-sdk, unmodified, against the server in
// BASE_URL. Prints "ok NAME" for each that did what its documentation says.
import assert from "node:assert/strict";
import runpodSdk from "runpod-sdk";

const { BASE_URL, API_KEY } = process.env;
const say = console.log;
console.log = () => {}; // the client prints every status

const sdk = runpodSdk(API_KEY, { baseUrl: BASE_URL });
const endpoint = sdk.endpoint("ep_classic");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(id, done) {
  for (;;) {
    const job = await endpoint.status(id);
    if (done(job)) return job;
    await sleep(50);
  }
}

async function refused(promise, status) {
  const error = await promise.then(() => assert.fail("it was not refused"), (e) => e);
  assert.equal(error.response?.status, status, String(error));
  return error.response.data;
}

const tests = {
  async run() {
    const { id, status } = await endpoint.run({ input: { prompt: "Hello, World!" } });
    assert.equal(status, "IN_QUEUE");
    const job = await until(id, (j) => j.completed);
    assert.equal(job.status, "COMPLETED");
    assert.deepEqual(job.output, { echo: { prompt: "Hello, World!" } });
    assert.ok(Number.isInteger(job.delayTime) && Number.isInteger(job.executionTime), JSON.stringify(job));
    assert.ok(job.started && job.succeeded);
  },
  async "run with a timeout of the call"() {
    const job = await endpoint.run({ input: { prompt: "x" } }, 5000);
    assert.ok(job.id);
  },
  async "run with an execution policy"() {
    const { id } = await endpoint.run({ input: { sleep: 60 }, policy: { executionTimeout: 1000 } });
    const job = await until(id, (j) => j.completed);
    assert.equal(job.status, "TIMED_OUT");
    assert.equal(typeof job.error, "string");
  },
  async "runSync that ends within its wait"() {
    const job = await endpoint.runSync({ input: { sleep: 1.5 } });
    assert.equal(job.status, "COMPLETED");
    assert.equal(job.output.echo.sleep, 1.5);
  },
  async "runSync that does not"() {
    const job = await endpoint.runSync({ input: { sleep: 20 } }, 1500);
    assert.equal(job.completed, false);
    assert.ok(["IN_QUEUE", "IN_PROGRESS"].includes(job.status), job.status);
    assert.equal((await endpoint.cancel(job.id)).status, "CANCELLED");
  },
  async statusSync() {
    const { id } = await endpoint.run({ input: { sleep: 1 } });
    assert.equal((await endpoint.statusSync(id)).status, "COMPLETED");
  },
  async stream() {
    const { id } = await endpoint.run({ input: { yields: 20 } });
    const seen = [];
    for await (const update of endpoint.stream(id)) seen.push(update.output.n);
    assert.deepEqual(seen, Array.from({ length: 20 }, (_, n) => n));
    assert.equal((await endpoint.status(id)).status, "COMPLETED");
  },
  async "stream of a failure"() {
    const { id } = await endpoint.run({ input: { yields: 3, fail: "it broke" } });
    const seen = [];
    for await (const update of endpoint.stream(id)) seen.push(update.output.n);
    assert.deepEqual(seen, [0, 1, 2]);
  },
  async failure() {
    const { id } = await endpoint.run({ input: { fail: "it broke" } });
    const job = await until(id, (j) => j.completed);
    assert.equal(job.status, "FAILED");
    assert.equal(job.error, "it broke");
    assert.equal(job.succeeded, false);
  },
  async cancel() {
    const { id } = await endpoint.run({ input: { sleep: 60 } });
    await until(id, (j) => j.status === "IN_PROGRESS");
    for (let n = 0; n < 2; n++) assert.deepEqual(await endpoint.cancel(id), { id, status: "CANCELLED" });
    assert.equal((await endpoint.status(id)).status, "CANCELLED");
  },
  async "health and purgeQueue"() {
    const blocker = await endpoint.run({ input: { sleep: 60 } });
    await until(blocker.id, (j) => j.status === "IN_PROGRESS");
    const queued = [];
    for (let n = 0; n < 3; n++) queued.push((await endpoint.run({ input: {} })).id);
    const { jobs, workers } = await endpoint.health();
    assert.equal(jobs.inProgress, 1);
    assert.equal(jobs.inQueue, 3);
    assert.ok(jobs.completed > 0 && jobs.failed > 0);
    assert.equal(workers.running, 1);
    assert.deepEqual(await endpoint.purgeQueue(), { removed: 3, status: "completed" });
    for (const id of queued) assert.equal((await endpoint.status(id)).status, "CANCELLED");
    await endpoint.cancel(blocker.id);
  },
  async "a bad key"() {
    const data = await refused(runpodSdk("wrong-wrong-wrong-wrong", { baseUrl: BASE_URL }).endpoint("ep_classic").run({ input: {} }), 401);
    assert.equal(data.error, "UNAUTHORIZED");
  },
  async "an unknown job"() {
    const data = await refused(endpoint.status("job_unknown"), 404);
    assert.equal(data.error, "JOB_NOT_FOUND");
  },
  async "an unknown endpoint"() {
    await refused(sdk.endpoint("ep_unknown").run({ input: {} }), 404);
  },
};

for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
  } catch (error) {
    console.error(`${name}: ${error.stack} ${error.cause ?? ""}`);
    process.exit(1);
  }
  say(`ok ${name}`);
}
