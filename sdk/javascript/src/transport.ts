import { APIError, ConnectionError, TimeoutError, UnavailableError, toError, type ErrorBody } from "./errors.js";
import { version } from "./version.js";
import type { Settings } from "./settings.js";

/** When a call may be sent again. */
export type Repeat =
  /** It has the same effect however often it arrives. */
  | "safe"
  /** Only while it surely had none: it reached nobody, or was refused by a limit. */
  | "unsent";

export interface Request {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  query?: Record<string, string | number | undefined>;
  headers?: Record<string, string>;
  body?: unknown;
  repeat: Repeat;
  /** Milliseconds that the server may hold the request, on top of the timeout. */
  hold?: number;
  signal?: AbortSignal | undefined;
}

/** The first wait is up to this, doubled each time: half a second of failover fits into the first three. */
const firstWait = 250;
const longestWait = 8_000;
/** A longer Retry-After is the caller's to wait for: a minute of silence helps nobody. */
const longestRetryAfter = 30_000;

/** Transport sends requests to the addresses of one cluster and repeats what may be repeated. */
export class Transport {
  readonly #settings: Settings;
  #current = 0; // the address that answered last

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** json sends a request and returns the parsed answer; undefined for 204 and 304. */
  async json<T>(request: Request): Promise<T> {
    const response = await this.send(request);
    if (response.status === 204 || response.status === 304) return undefined as T;
    const text = await response.text();
    try {
      return JSON.parse(text) as T;
    } catch {
      throw new APIError(response.status, { error: "BAD_ANSWER", message: `The server's answer is no JSON: ${text.slice(0, 200)}` });
    }
  }

  /** send returns the first answer of success; the caller reads its body. */
  async send(request: Request): Promise<Response> {
    for (let failures = 0; ; failures++) {
      const index = this.#current;
      try {
        const response = await this.#once(index, request);
        if (response.ok || response.status === 304) return response;
        throw toError(response.status, await errorBody(response));
      } catch (error) {
        request.signal?.throwIfAborted();
        const wait = this.#wait(request, error, failures);
        if (wait === undefined) throw error;
        if (!(error instanceof APIError) || error instanceof UnavailableError) this.#moveOn(index);
        await sleep(wait, request.signal);
      }
    }
  }

  #moveOn(from: number): void {
    if (this.#current === from) this.#current = (from + 1) % this.#settings.bases.length;
  }

  async #once(index: number, request: Request): Promise<Response> {
    const { settings, url } = { settings: this.#settings, url: this.#url(index, request) };
    const limit = AbortSignal.timeout(settings.timeout + (request.hold ?? 0));
    const init: RequestInit = {
      method: request.method,
      headers: this.#headers(request),
      signal: request.signal ? AbortSignal.any([request.signal, limit]) : limit,
      redirect: "error", // a redirect would drop the key
    };
    if (request.body !== undefined) init.body = JSON.stringify(request.body);
    try {
      return await settings.fetch(url, init);
    } catch (error) {
      request.signal?.throwIfAborted();
      if (limit.aborted) throw new TimeoutError(`no answer from ${url} within ${settings.timeout + (request.hold ?? 0)} ms`, { cause: error });
      throw new ConnectionError(`cannot reach ${url}: ${reason(error)}`, { cause: error });
    }
  }

  #url(index: number, request: Request): string {
    const url = new URL(this.#settings.bases[index] + request.path);
    for (const [key, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.append(key, String(value));
    }
    return url.href;
  }

  #headers(request: Request): Record<string, string> {
    return {
      accept: "application/json",
      "content-type": "application/json",
      "user-agent": `tensorone-sdk-js/${version}`,
      ...this.#settings.headers,
      authorization: `Bearer ${this.#settings.apiKey}`,
      ...request.headers,
    };
  }

  /** Milliseconds until the next attempt; undefined: give up. */
  #wait(request: Request, error: unknown, failures: number): number | undefined {
    if (failures >= this.#settings.maxRetries) return undefined;
    const backoff = Math.random() * Math.min(longestWait, firstWait * 2 ** failures);
    if (!(error instanceof APIError)) {
      const again = request.repeat === "safe" || (error instanceof ConnectionError && neverSent(error));
      return again ? backoff : undefined;
    }
    const after = (error.retryAfter ?? 0) * 1000;
    if (after > longestRetryAfter) return undefined;
    if (error.status === 429) return after + backoff;
    const gateway = error.status === 502 || error.status === 503 || error.status === 504;
    const safe = request.repeat === "safe" || (error.status === 503 && error.details["outcome"] === "none");
    return gateway && safe ? after + backoff : undefined;
  }
}

/** sleep waits, or throws the reason of signal. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

async function errorBody(response: Response): Promise<ErrorBody> {
  const text = await response.text().catch(() => "");
  let body: ErrorBody;
  try {
    const parsed: unknown = JSON.parse(text);
    body = typeof parsed === "object" && parsed !== null ? (parsed as ErrorBody) : {};
  } catch {
    body = { message: text ? `status ${response.status}: ${text.slice(0, 200)}` : `The server answered with status ${response.status}` };
  }
  const after = Number(response.headers.get("retry-after"));
  if (after > 0 && body.details?.["retryAfter"] === undefined) body.details = { ...body.details, retryAfter: after };
  return body;
}

function neverSent(error: ConnectionError): boolean {
  const code = codeOf(error.cause);
  return code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "EAI_AGAIN" || code === "UND_ERR_CONNECT_TIMEOUT";
}

function codeOf(error: unknown): string | undefined {
  for (let e = error as { code?: string; cause?: unknown } | undefined; e; e = e.cause as typeof e) {
    if (typeof e.code === "string") return e.code;
  }
  return undefined;
}

function reason(error: unknown): string {
  return codeOf(error) ?? (error instanceof Error ? error.message : String(error));
}
