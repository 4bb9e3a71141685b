/** The errors of this package. What the server refuses is an APIError of the class that fits its code. */

/** Base of every error that this package throws on purpose. */
export class TensorOneError extends Error {
  override name = "TensorOneError";
}

/** No answer: the connection failed, or nothing came within the timeout. */
export class ConnectionError extends TensorOneError {
  override name = "ConnectionError";
}

/** A wait or a request took longer than it was allowed to. */
export class TimeoutError extends TensorOneError {
  override name = "TimeoutError";
}

/** A signature that does not fit the body, or is too old. */
export class SignatureError extends TensorOneError {
  override name = "SignatureError";
}

/** The body of an error answer: `{error, message, details, requestId}`. */
export interface ErrorBody {
  error?: string;
  message?: string;
  details?: Record<string, unknown>;
  requestId?: string;
}

/** An answer other than success. */
export class APIError extends TensorOneError {
  override name = "APIError";
  /** Stable name in upper snake case, for example `QUEUE_FULL`; `HTTP_502` for an answer that is not ours. */
  readonly code: string;
  /** HTTP status. */
  readonly status: number;
  readonly details: Record<string, unknown>;
  readonly requestId: string | undefined;

  constructor(status: number, body: ErrorBody) {
    super(body.message ?? `The server answered with status ${status}`);
    this.code = body.error ?? `HTTP_${status}`;
    this.status = status;
    this.details = body.details ?? {};
    this.requestId = body.requestId;
  }

  /** Seconds that the server asks to wait for, if it does. */
  get retryAfter(): number | undefined {
    const value = this.details["retryAfter"];
    return typeof value === "number" ? value : undefined;
  }

  /** Whether the call may have had an effect although it was not confirmed. */
  get mayHaveHappened(): boolean {
    return this.details["outcome"] === "unknown";
  }
}

/** 401: no key, or one that is not known, expired or revoked. */
export class AuthenticationError extends APIError {
  override name = "AuthenticationError";
}
/** 402: not enough credits; details hold balance and required. */
export class InsufficientCreditsError extends APIError {
  override name = "InsufficientCreditsError";
}
/** 403: the key lacks details.requiredPermission. */
export class PermissionError extends APIError {
  override name = "PermissionError";
}
/** 404: no such job, endpoint or path, or not of this organisation. */
export class NotFoundError extends APIError {
  override name = "NotFoundError";
}
/** 409: the state of the thing does not allow it. */
export class ConflictError extends APIError {
  override name = "ConflictError";
}
/** 422: details.field, details.value and details.reason say what is wrong; details.errors has every finding. */
export class ValidationError extends APIError {
  override name = "ValidationError";
}
/** 429: more calls than the key may make; details.retryAfter says when to come back. */
export class RateLimitError extends APIError {
  override name = "RateLimitError";
}
/** 429: the queue is full; details.limit says which one. */
export class QueueFullError extends APIError {
  override name = "QueueFullError";
}
/** 503: no leader, or the server is about to stop. */
export class UnavailableError extends APIError {
  override name = "UnavailableError";
}
/** 507: the storage quota is used up. */
export class StorageLimitError extends APIError {
  override name = "StorageLimitError";
}

/** toError returns the error of the class that fits status and code. */
export function toError(status: number, body: ErrorBody): APIError {
  if (body.error === "QUEUE_FULL") return new QueueFullError(status, body);
  switch (status) {
    case 401:
      return new AuthenticationError(status, body);
    case 402:
      return new InsufficientCreditsError(status, body);
    case 403:
      return new PermissionError(status, body);
    case 404:
      return new NotFoundError(status, body);
    case 409:
      return new ConflictError(status, body);
    case 422:
      return new ValidationError(status, body);
    case 429:
      return new RateLimitError(status, body);
    case 503:
      return new UnavailableError(status, body);
    case 507:
      return new StorageLimitError(status, body);
    default:
      return new APIError(status, body);
  }
}
