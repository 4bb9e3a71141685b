import { ClassicEndpoint } from "./classic.js";
import { Endpoints } from "./endpoints.js";
import { Jobs } from "./jobs.js";
import { resolve, type ClientOptions } from "./settings.js";
import { Transport } from "./transport.js";

export * from "./errors.js";
export * from "./types.js";
export type { CallOptions, ClientOptions } from "./settings.js";
export type { ListOptions, StatusOptions } from "./jobs.js";
export { Jobs } from "./jobs.js";
export { Endpoints } from "./endpoints.js";
export { ClassicEndpoint } from "./classic.js";
export type { ClassicJob, ClassicRequest, ClassicState, Health, StreamItem } from "./classic.js";
export { verifyWebhook } from "./webhook.js";
export { version } from "./version.js";

/** TensorOneClient speaks both dialects: `endpoints` and `jobs` the native one, `endpoint(id)` the classic one. */
export class TensorOneClient {
  readonly endpoints: Endpoints;
  readonly jobs: Jobs;
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(resolve(options));
    this.jobs = new Jobs(this.#transport);
    this.endpoints = new Endpoints(this.#transport, this.jobs);
  }

  /** endpoint returns one endpoint in the dialect of `run` and `runSync`. */
  endpoint(endpointId: string | undefined): ClassicEndpoint {
    return new ClassicEndpoint(this.#transport, endpointId ?? "");
  }
}

/** tensorone makes a client from an API key; without one it is taken from `TENSORONE_API_KEY`. */
export default function tensorone(apiKey?: string, options: Omit<ClientOptions, "apiKey"> = {}): TensorOneClient {
  return new TensorOneClient({ ...options, apiKey });
}
