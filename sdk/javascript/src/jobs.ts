import { ConnectionError, TimeoutError } from "./errors.js";
import { parseEvents } from "./sse.js";
import { sleep, type Transport } from "./transport.js";
import type { CallOptions } from "./settings.js";
import type { BatchError, BatchStatus, Explanation, Include, JobStatus, JobSummary, LogLine, Page } from "./types.js";

export interface StatusOptions extends CallOptions {
  include?: Include[];
  /** `summary` answers `{jobId, status, progress, result, error}` only. */
  format?: "json" | "summary";
  /** Seconds to hold the answer until the job's revision is no longer `revision`. */
  wait?: number;
  revision?: string;
  /** `stale` answers from any coordinator, also without a leader. */
  consistency?: "stale";
}

export interface ListOptions extends CallOptions {
  status?: string;
  endpoint?: string;
  priority?: string;
  idempotencyKey?: string;
  tags?: Record<string, string>;
  limit?: number;
  cursor?: string;
}

const terminal = new Set(["completed", "failed", "cancelled", "timeout"]);
const longPoll = 30; // seconds; the server's own bound is above it
const longestBreak = 8_000; // between two attempts to resume a stream
const readsUntilWarning = 3;
const remembered = 100; // jobs whose terminal reads are counted

/** Jobs reads and steers jobs. */
export class Jobs {
  readonly #transport: Transport;
  readonly #terminalReads = new Map<string, number>();

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** getStatus reads one status document. */
  async getStatus(jobId: string, options: StatusOptions & { format: "summary" }): Promise<JobSummary>;
  async getStatus(jobId: string, options?: StatusOptions): Promise<JobStatus>;
  async getStatus(jobId: string, options: StatusOptions = {}): Promise<JobStatus | JobSummary> {
    const status = await this.#status(jobId, options);
    this.#warn(status);
    return status;
  }

  async #status(jobId: string, options: StatusOptions): Promise<JobStatus> {
    const hold = (options.wait ?? 0) * 1000;
    const query = {
      include: options.include?.join(",") || undefined,
      format: options.format,
      wait: options.wait ? `${options.wait}s` : undefined,
      revision: options.revision,
      consistency: options.consistency,
    };
    return withDone(await this.#transport.json<JobStatus>({ method: "GET", path: `${path(jobId)}/status`, query, hold, repeat: "safe", signal: options.signal }));
  }

  /**
   * watchStatus yields the status now and at every change, and ends after a terminal one. A broken connection is
   * resumed where it was; leaving the loop closes it.
   */
  async *watchStatus(jobId: string, options: CallOptions = {}): AsyncGenerator<JobStatus, void, void> {
    const where = `${path(jobId)}/status/stream`;
    const leave = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leave.signal]) : leave.signal;
    let last: string | undefined;
    let failures = 0;
    try {
      for (;;) {
        try {
          const response = await this.#openStream(where, last, signal);
          if (response.status === 204 || !response.body) return;
          for await (const event of parseEvents(response.body)) {
            failures = 0;
            last = event.id ?? last;
            if (event.type !== "status") continue;
            const status = withDone(JSON.parse(event.data) as JobStatus);
            yield status;
            if (status.done) return;
          }
        } catch (error) {
          options.signal?.throwIfAborted();
          if (!broken(error)) throw error;
        }
        await sleep(Math.random() * Math.min(longestBreak, 250 * 2 ** failures++), signal);
      }
    } finally {
      leave.abort();
    }
  }

  /** streamStatus is watchStatus under its other name. */
  streamStatus(jobId: string, options: CallOptions = {}): AsyncGenerator<JobStatus, void, void> {
    return this.watchStatus(jobId, options);
  }

  #openStream(where: string, last: string | undefined, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (last !== undefined) headers["last-event-id"] = last;
    return this.#transport.send({ method: "GET", path: where, headers, hold: streamHold, repeat: "safe", signal });
  }

  /** getBatchStatus reads up to 1,000 jobs in one request: an array in the order asked, with errors beside it. */
  async getBatchStatus(request: { jobIds: string[]; include?: Include[] } & CallOptions): Promise<BatchStatus> {
    const body = { jobIds: request.jobIds, include: request.include };
    const answer = await this.#transport.json<{ jobs: JobStatus[]; errors?: BatchError[] }>({
      method: "POST", path: "/v2/jobs/status/batch", body, repeat: "safe", signal: request.signal,
    });
    return Object.assign(answer.jobs.map(withDone), { errors: answer.errors ?? [] });
  }

  /** wait returns the terminal status; after `timeout` milliseconds it throws a TimeoutError. */
  async wait(jobId: string, options: { timeout?: number; include?: Include[] } & CallOptions = {}): Promise<JobStatus> {
    const end = Date.now() + (options.timeout ?? Infinity);
    let revision: string | undefined;
    for (;;) {
      const left = (end - Date.now()) / 1000;
      const wait = Math.max(1, Math.min(longPoll, Math.ceil(left)));
      const asked: StatusOptions = { wait };
      if (options.include) asked.include = options.include;
      if (revision !== undefined) asked.revision = revision;
      if (options.signal) asked.signal = options.signal;
      const status = await this.#status(jobId, asked);
      if (status.done) return status;
      if (Date.now() >= end) throw new TimeoutError(`job ${jobId} is still ${status.status} after ${options.timeout} ms`);
      revision = status.revision;
    }
  }

  /** list returns one page, newest first. */
  async list(options: ListOptions = {}): Promise<Page<JobStatus>> {
    const { tags, signal, ...rest } = options;
    const query: Record<string, string | number | undefined> = { ...rest };
    for (const [key, value] of Object.entries(tags ?? {})) query[`tag.${key}`] = value;
    const page = await this.#transport.json<Page<JobStatus>>({ method: "GET", path: "/v2/jobs", query, repeat: "safe", signal });
    page.data.forEach(withDone);
    return page;
  }

  /** all yields every job of a list, page after page. */
  async *all(options: ListOptions = {}): AsyncGenerator<JobStatus, void, void> {
    for (let cursor = options.cursor; ; ) {
      const page = await this.list(cursor === undefined ? options : { ...options, cursor });
      yield* page.data;
      if (!page.nextCursor) return;
      cursor = page.nextCursor;
    }
  }

  /** cancel ends a job; on an ended one it changes nothing. */
  cancel(jobId: string, options: CallOptions = {}): Promise<JobStatus> {
    return this.#post(jobId, "cancel", "safe", options);
  }

  /** pause holds a queued job in its place, or asks a running one for a checkpoint. */
  pause(jobId: string, options: CallOptions = {}): Promise<JobStatus> {
    return this.#post(jobId, "pause", "safe", options);
  }

  /** resume lets a paused job run. */
  resume(jobId: string, options: CallOptions = {}): Promise<JobStatus> {
    return this.#post(jobId, "resume", "safe", options);
  }

  /** retry runs an ended job again under the same id. */
  retry(jobId: string, options: CallOptions = {}): Promise<JobStatus> {
    return this.#post(jobId, "retry", "unsent", options);
  }

  async #post(jobId: string, verb: string, repeat: "safe" | "unsent", options: CallOptions): Promise<JobStatus> {
    return withDone(await this.#transport.json<JobStatus>({ method: "POST", path: `${path(jobId)}/${verb}`, body: {}, repeat, signal: options.signal }));
  }

  /** explain says where a job stands and why it waits. */
  explain(jobId: string, options: CallOptions = {}): Promise<Explanation> {
    return this.#get(jobId, "explain", options);
  }

  /** logs returns the kept lines of a job's log. */
  logs(jobId: string, options: CallOptions = {}): Promise<Page<LogLine>> {
    return this.#get(jobId, "logs", options);
  }

  /** output returns what the handler returned, however large. */
  output(jobId: string, options: CallOptions = {}): Promise<any> {
    return this.#get(jobId, "output", options);
  }

  #get<T>(jobId: string, what: string, options: CallOptions): Promise<T> {
    return this.#transport.json<T>({ method: "GET", path: `${path(jobId)}/${what}`, repeat: "safe", signal: options.signal });
  }

  /**
   * A loop that polls until completed, failed or cancelled never ends on a job that timed out, and one that ignores
   * `cancelled` likewise: say so once.
   */
  #warn(status: JobStatus): void {
    if (!terminal.has(status.status)) return;
    const reads = (this.#terminalReads.get(status.jobId) ?? 0) + 1;
    this.#terminalReads.delete(status.jobId);
    this.#terminalReads.set(status.jobId, reads);
    for (const oldest of this.#terminalReads.keys()) {
      if (this.#terminalReads.size <= remembered) break;
      this.#terminalReads.delete(oldest);
    }
    if (reads === readsUntilWarning) {
      console.warn(`job ${status.jobId} is ${status.status} and stays so; end the polling loop on status.done, or call jobs.wait`);
    }
  }
}

/** A stream that nobody ends: the server writes at least a comment every 15 s and ends it itself. */
const streamHold = 7 * 24 * 3600 * 1000;

function path(jobId: string): string {
  if (!jobId) throw new TypeError("cannot address a job: its id is empty");
  return `/v2/jobs/${encodeURIComponent(jobId)}`;
}

/** withDone adds `done`, which is not part of the document and so not of its JSON. */
function withDone<T extends { status: string }>(status: T): T {
  return Object.defineProperty(status, "done", { value: terminal.has(status.status), enumerable: false });
}

/** Whether a stream may be opened again after error: what the server said on purpose stands. */
function broken(error: unknown): boolean {
  return error instanceof ConnectionError || error instanceof TypeError || (error instanceof Error && error.name === "AbortError");
}
