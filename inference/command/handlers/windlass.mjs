// Handler helper for Windlass: one file, no dependencies.
//
//   import { run } from "./windlass.mjs";   // or from process.env.WINDLASS_HANDLERS
//   run(async (job) => {
//     job.progress({ percent: 50, step: "half way" });
//     return { text: job.input.prompt.toUpperCase() };
//   });
//
// Messages go to the descriptor WINDLASS_FD. Standard output is pointed at standard
// error, so a stray console.log is a log line and can never break the channel.

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";

const MAX_LINE = 1 << 20; // longer outputs go through a file in the job's workdir

/** A failure with a code; retryable says whether another attempt may help. */
export class JobError extends Error {
  constructor(code, message, { details, retryable = false, partial } = {}) {
    super(message);
    Object.assign(this, { code, details, retryable, partial });
  }
}

/** Throw it with JSON data once job.pausing is true: the job stops, and goes on with job.checkpoint = data. */
export class Pause extends Error {
  constructor(checkpoint = null) {
    super("paused");
    this.checkpoint = checkpoint;
  }
}

/** Thrown by job.progress and job.chunk once the job is to end. */
export class Cancelled extends Error {}

const fd = Number(process.env.WINDLASS_FD ?? 1);

function send(message) {
  let bytes = Buffer.from(JSON.stringify(message) + "\n");
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(fs.writeSync(fd, bytes));
    } catch (e) {
      if (e.code !== "EAGAIN") throw e;
    }
  }
}

if (fd !== 1) {
  // Node cannot redirect descriptor 1 itself; its own writers go through here.
  process.stdout.write = process.stderr.write.bind(process.stderr);
}

class Job {
  #stop = new AbortController();

  /** True once the job is asked to stop at a checkpoint: throw a Pause at the next good moment. */
  pausing = false;

  constructor(message) {
    this.id = message.id;
    this.workdir = message.workdir;
    this.outputDir = message.outputDir;
    this.deadline = message.deadline;
    this.s3Config = message.s3Config;
    this.checkpoint = message.checkpointFile ? JSON.parse(fs.readFileSync(message.checkpointFile, "utf8")) : message.checkpoint;
    this.input = message.inputFile ? JSON.parse(fs.readFileSync(message.inputFile, "utf8")) : message.input;
  }

  /** Aborted when the job is to end; hand it to fetch and timers. */
  get signal() {
    return this.#stop.signal;
  }

  check() {
    if (this.#stop.signal.aborted) throw new Cancelled("the job was cancelled");
  }

  progress(fields) {
    this.check();
    send({ type: "progress", id: this.id, ...(typeof fields === "number" ? { percent: fields } : fields) });
  }

  chunk(data) {
    this.check();
    send({ type: "chunk", id: this.id, data });
  }

  log(message) {
    send({ type: "log", id: this.id, message: String(message) });
  }

  metric(name, value) {
    send({ type: "metric", id: this.id, name, value });
  }

  /** Hand in a file of the job's workdir; it is taken when the job ends. */
  file(filePath, name = path.basename(filePath)) {
    send({ type: "file", id: this.id, path: filePath, name });
  }

  cancel() {
    this.#stop.abort(new Cancelled("the job was cancelled"));
  }
}

function finish(job, output) {
  const text = JSON.stringify(output ?? null);
  if (Buffer.byteLength(text) < MAX_LINE - 1024) {
    send({ type: "result", id: job.id, output: output ?? null });
    return;
  }
  fs.writeFileSync(path.join(job.workdir, "output.json"), text);
  send({ type: "result", id: job.id, outputFile: "output.json" });
}

async function serve(handler, job) {
  const stopped = new Promise((_, reject) => job.signal.addEventListener("abort", () => reject(job.signal.reason)));
  try {
    finish(job, await Promise.race([handler(job), stopped]));
  } catch (e) {
    if (e instanceof Pause && job.pausing) {
      send({ type: "checkpoint", id: job.id, data: e.checkpoint });
    } else if (e instanceof Cancelled || job.signal.aborted) {
      send({ type: "error", id: job.id, code: "CANCELLED", message: "the handler was cancelled" });
    } else {
      if (!(e instanceof JobError)) console.error(e);
      const { code, details, retryable, partial } = e instanceof JobError ? e : {};
      send({ type: "error", id: job.id, code, message: String(e?.message ?? e), details, retryable, partial });
    }
  }
}

/**
 * Serve jobs with handler(job) until the input ends. load(), if given, runs once
 * before the first job and is measured as the model load. checkpoint says that the
 * handler looks at job.pausing and throws a Pause.
 */
export async function run(handler, { load, checkpoint = false } = {}) {
  const running = new Map();
  send({ type: "hello", language: "node", checkpoint });
  process.on("SIGINT", () => running.forEach((job) => job.cancel()));
  if (load) {
    send({ type: "phase", name: "modelLoad" });
    await load();
  }
  send({ type: "ready" });
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const message = JSON.parse(line);
    if (message.type === "job") {
      const job = new Job(message);
      running.set(job.id, job);
      serve(handler, job).finally(() => running.delete(job.id));
    } else if (message.type === "cancel") {
      running.get(message.id)?.cancel();
    } else if (message.type === "pause") {
      const job = running.get(message.id);
      if (job) job.pausing = true;
    } else if (message.type === "shutdown") {
      break;
    }
  }
  process.exitCode = 0;
  process.exit();
}
