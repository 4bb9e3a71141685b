import { Jobs } from "./jobs.js";
import { Transport } from "./transport.js";
import type { CallOptions } from "./settings.js";
import type { Endpoint, JobStatus, Page, Submitted, SubmitRequest } from "./types.js";

/** Endpoints submits jobs and manages what runs them. */
export class Endpoints {
  readonly #transport: Transport;
  readonly #jobs: Jobs;

  constructor(transport: Transport, jobs: Jobs) {
    this.#transport = transport;
    this.#jobs = jobs;
  }

  /** executeAsync submits a job and returns at once. */
  executeAsync(endpointId: string, request: SubmitRequest, options: CallOptions = {}): Promise<Submitted> {
    return this.#transport.json<Submitted>({
      method: "POST",
      path: `${path(endpointId)}/runasync`,
      headers: { "idempotency-key": request.idempotencyKey ?? newKey() },
      body: request,
      repeat: "safe", // the key makes it so
      signal: options.signal,
    });
  }

  /** execute submits a job and waits for its end; `timeout` in milliseconds bounds the wait, not the job. */
  async execute(endpointId: string, request: SubmitRequest, options: { timeout?: number } & CallOptions = {}): Promise<JobStatus> {
    const job = await this.executeAsync(endpointId, request, options);
    return this.#jobs.wait(job.jobId, options);
  }

  /** list returns every endpoint of the organisation. */
  list(options: CallOptions = {}): Promise<Page<Endpoint>> {
    return this.#transport.json({ method: "GET", path: "/v2/endpoints", repeat: "safe", signal: options.signal });
  }

  get(endpointId: string, options: CallOptions = {}): Promise<Endpoint> {
    return this.#transport.json({ method: "GET", path: path(endpointId), repeat: "safe", signal: options.signal });
  }

  /** put creates or changes an endpoint; with `revision` only if it is still that one. */
  put(endpoint: Endpoint, options: CallOptions = {}): Promise<Endpoint> {
    return this.#transport.json({ method: "PUT", path: path(endpoint.id), body: endpoint, repeat: "safe", signal: options.signal });
  }

  /** delete removes an endpoint that has no live jobs. */
  async delete(endpointId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: "DELETE", path: path(endpointId), repeat: "unsent", signal: options.signal });
  }

  /** pause stops handing out jobs; submits are still taken. */
  pause(endpointId: string, options: CallOptions = {}): Promise<Endpoint> {
    return this.#post(endpointId, "pause", options);
  }

  resume(endpointId: string, options: CallOptions = {}): Promise<Endpoint> {
    return this.#post(endpointId, "resume", options);
  }

  /** purge cancels every queued job. */
  purge(endpointId: string, options: CallOptions = {}): Promise<{ removed: number; status: string }> {
    return this.#post(endpointId, "purge", options);
  }

  #post<T>(endpointId: string, verb: string, options: CallOptions): Promise<T> {
    return this.#transport.json({ method: "POST", path: `${path(endpointId)}/${verb}`, body: {}, repeat: "safe", signal: options.signal });
  }
}

/** newKey is 128 bits that nobody has used: a repeated submit is the same job. */
export function newKey(): string {
  return `js-${globalThis.crypto.randomUUID()}`;
}

function path(endpointId: string): string {
  if (!endpointId) throw new TypeError("cannot address an endpoint: its id is empty");
  return `/v2/endpoints/${encodeURIComponent(endpointId)}`;
}
