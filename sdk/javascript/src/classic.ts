import { newKey } from "./endpoints.js";
import { sleep, Transport } from "./transport.js";
import type { CallOptions } from "./settings.js";
import type { Policy } from "./types.js";

export type ClassicState = "IN_QUEUE" | "IN_PROGRESS" | "COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT" | (string & {});

/** What the classic dialect says of a job: upper-case states, integer milliseconds, `error` a text. */
export interface ClassicJob {
  id: string;
  jobId: string;
  status: ClassicState;
  delayTime?: number;
  executionTime?: number;
  output?: any;
  error?: string;
  [key: string]: any;
}

export interface ClassicRequest {
  input: any;
  webhook?: string;
  policy?: Policy;
  [key: string]: any;
}

export interface Health {
  jobs: { completed: number; failed: number; inProgress: number; inQueue: number; retried: number };
  workers: Record<string, number>;
}

export interface StreamItem {
  output: any;
  metrics?: Record<string, unknown>;
}

const final = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);
const defaultWait = 90_000;
const longestWait = 300_000; // the server's bound on one held request
/** A server that answers a held request at once would otherwise be asked without a pause. */
const pace = 50;

/** ClassicEndpoint is one endpoint in the dialect of `run` and `runSync`. */
export class ClassicEndpoint {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, endpointId: string) {
    if (!endpointId) throw new TypeError("cannot address an endpoint: its id is empty; is ENDPOINT_ID set?");
    this.#transport = transport;
    this.#path = `/v2/${encodeURIComponent(endpointId)}`;
  }

  /** run submits a job; a second argument is its execution timeout in milliseconds. */
  run(request: ClassicRequest, timeout?: number, options: CallOptions = {}): Promise<ClassicJob> {
    return this.#submit("run", withTimeout(request, timeout), {}, 0, options);
  }

  /**
   * runSync submits a job and waits for its end. A second argument is the execution timeout in milliseconds and
   * bounds the wait as well (default 90 s); a job that has not ended by then is returned as it is, and goes on.
   */
  async runSync(request: ClassicRequest, timeout?: number, options: CallOptions = {}): Promise<ClassicJob> {
    const limit = timeout ?? defaultWait;
    const end = Date.now() + limit;
    let wait = Math.min(limit, longestWait);
    let job = await this.#submit("runsync", withTimeout(request, timeout), { wait }, wait, options);
    while (!final.has(job.status) && Date.now() < end) {
      wait = Math.min(Math.max(end - Date.now(), 1_000), longestWait);
      job = await this.#paced(() => this.statusSync(job.id, wait, options), options);
    }
    return job;
  }

  status(id: string, options: CallOptions = {}): Promise<ClassicJob> {
    return this.#get(`status/${segment(id)}`, {}, 0, options);
  }

  /** statusSync holds the answer until the job ends, at most `wait` milliseconds. */
  statusSync(id: string, wait = defaultWait, options: CallOptions = {}): Promise<ClassicJob> {
    return this.#get(`status-sync/${segment(id)}`, { wait }, wait, options);
  }

  /** stream yields what the handler yields, and ends with the job. */
  async *stream(id: string, options: CallOptions = {}): AsyncGenerator<StreamItem, void, void> {
    for (;;) {
      const answer = await this.#paced(
        () => this.#get<ClassicJob & { stream?: StreamItem[] }>(`stream/${segment(id)}`, {}, 10_000, options),
        options,
      );
      yield* answer.stream ?? [];
      if (final.has(answer.status)) return;
    }
  }

  cancel(id: string, options: CallOptions = {}): Promise<ClassicJob> {
    return this.#post(`cancel/${segment(id)}`, "safe", options);
  }

  /** retry runs a failed or timed-out job again. */
  retry(id: string, options: CallOptions = {}): Promise<ClassicJob> {
    return this.#post(`retry/${segment(id)}`, "unsent", options);
  }

  health(options: CallOptions = {}): Promise<Health> {
    return this.#transport.json({ method: "GET", path: `${this.#path}/health`, repeat: "safe", signal: options.signal });
  }

  /** purgeQueue cancels every queued job. */
  purgeQueue(options: CallOptions = {}): Promise<{ removed: number; status: string }> {
    return this.#transport.json({ method: "POST", path: `${this.#path}/purge-queue`, body: {}, repeat: "safe", signal: options.signal });
  }

  async #submit(verb: string, body: ClassicRequest, query: Record<string, number>, hold: number, options: CallOptions): Promise<ClassicJob> {
    const headers = { "idempotency-key": newKey() };
    return named(await this.#transport.json<ClassicJob>({ method: "POST", path: `${this.#path}/${verb}`, query, headers, body, hold, repeat: "safe", signal: options.signal }));
  }

  async #post(verb: string, repeat: "safe" | "unsent", options: CallOptions): Promise<ClassicJob> {
    return named(await this.#transport.json<ClassicJob>({ method: "POST", path: `${this.#path}/${verb}`, body: {}, repeat, signal: options.signal }));
  }

  async #get<T extends ClassicJob>(what: string, query: Record<string, number>, hold: number, options: CallOptions): Promise<T> {
    return named(await this.#transport.json<T>({ method: "GET", path: `${this.#path}/${what}`, query, hold, repeat: "safe", signal: options.signal }));
  }

  async #paced<T>(call: () => Promise<T>, options: CallOptions): Promise<T> {
    const begin = Date.now();
    const answer = await call();
    const left = pace - (Date.now() - begin);
    if (left > 0) await sleep(left, options.signal);
    return answer;
  }
}

function withTimeout(request: ClassicRequest, timeout: number | undefined): ClassicRequest {
  if (timeout === undefined || request.policy?.executionTimeout !== undefined) return request;
  return { ...request, policy: { ...request.policy, executionTimeout: timeout } };
}

/** named adds `jobId`, so that code of either dialect reads the id. */
function named<T extends ClassicJob>(job: T): T {
  if (job.id !== undefined && job.jobId === undefined) job.jobId = job.id;
  return job;
}

function segment(id: string): string {
  if (!id) throw new TypeError("cannot address a job: its id is empty");
  return encodeURIComponent(id);
}
