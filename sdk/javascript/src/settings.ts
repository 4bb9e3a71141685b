/** Options of a client. What is left out comes from the environment, then from the default. */
export interface ClientOptions {
  /** Default: `TENSORONE_API_KEY`. */
  apiKey?: string | undefined;
  /**
   * With or without `/v2`; several addresses of one cluster are separated by commas and tried in turn.
   * Default: `TENSORONE_BASE_URL`, then `http://127.0.0.1:7400`.
   */
  baseUrl?: string | undefined;
  /** Milliseconds for one attempt of a request that the server does not hold. Default 60000. */
  timeout?: number;
  /** How often a call is repeated after the first attempt. Default 4; 0 never repeats. */
  maxRetries?: number;
  /** Used instead of the global fetch. */
  fetch?: typeof fetch;
  /** Sent with every request. */
  headers?: Record<string, string>;
}

/** Options of every single call. */
export interface CallOptions {
  signal?: AbortSignal;
}

export interface Settings {
  apiKey: string;
  bases: string[]; // without /v2 and without a slash at the end
  timeout: number;
  maxRetries: number;
  fetch: typeof fetch;
  headers: Record<string, string>;
}

const defaultBase = "http://127.0.0.1:7400";
const defaultTimeout = 60_000;
const defaultRetries = 4;

/** resolve fills options from the environment; it throws a TypeError that says what is missing. */
export function resolve(options: ClientOptions): Settings {
  const apiKey = key(options.apiKey);
  if (!apiKey) {
    throw new TypeError("cannot make a client: no API key; give apiKey or set TENSORONE_API_KEY");
  }
  const given = options.baseUrl ?? environment("TENSORONE_BASE_URL") ?? defaultBase;
  return {
    apiKey,
    bases: given.split(",").map(base),
    timeout: options.timeout ?? defaultTimeout,
    maxRetries: options.maxRetries ?? defaultRetries,
    fetch: options.fetch ?? ((...args) => globalThis.fetch(...args)),
    headers: options.headers ?? {},
  };
}

/** The documentation's placeholder gives way to the environment, so that a pasted example runs. */
const placeholder = "your_api_key";

function key(given: string | undefined): string | undefined {
  const known = environment("TENSORONE_API_KEY");
  return given === undefined || (given === placeholder && known) ? known : given;
}

function base(text: string): string {
  const trimmed = text.trim().replace(/\/+$/, "").replace(/\/v2$/, "");
  if (!/^https?:\/\/[^/]/i.test(trimmed)) {
    throw new TypeError(`cannot use base URL ${JSON.stringify(text)}: it must begin with http:// or https://, for example ${defaultBase}`);
  }
  return trimmed;
}

function environment(name: string): string | undefined {
  const host = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return host.process?.env?.[name] || undefined;
}
