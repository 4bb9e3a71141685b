import { SignatureError } from "./errors.js";

/** How far the clock of a sender may be off, in seconds. */
const tolerance = 300;

export interface WebhookHeaders {
  get(name: string): string | null;
}

/**
 * verifyWebhook checks a received webhook and returns its parsed body. `body` must be the bytes as received: a parsed
 * and serialised body has another signature. `headers` is a Headers object or a plain object with lower-case names;
 * `secret` is what the server showed once (`whsec_...`). It throws a SignatureError.
 */
export async function verifyWebhook(
  body: string | Uint8Array,
  headers: WebhookHeaders | Record<string, string | string[] | undefined>,
  secret: string,
): Promise<any> {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const id = header(headers, "webhook-id");
  const timestamp = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  const hex = header(headers, "x-webhook-signature");
  if (id && timestamp && signatures) {
    const age = Math.abs(Date.now() / 1000 - Number(timestamp));
    if (!(age <= tolerance)) throw new SignatureError(`the webhook's timestamp ${timestamp} is more than ${tolerance} s away from now`);
    const signed = concat(new TextEncoder().encode(`${id}.${timestamp}.`), bytes);
    const want = `v1,${base64(await hmac(standardKey(secret), signed))}`;
    if (!signatures.split(" ").some((given) => equal(given, want))) throw new SignatureError("no signature of the webhook fits its body and this secret");
  } else if (hex) {
    const want = `sha256=${[...(await hmac(new TextEncoder().encode(secret), bytes))].map((b) => b.toString(16).padStart(2, "0")).join("")}`;
    if (!equal(hex, want)) throw new SignatureError("the signature of the webhook does not fit its body and this secret");
  } else {
    throw new SignatureError("the request carries no webhook signature");
  }
  return JSON.parse(new TextDecoder().decode(bytes));
}

function header(headers: WebhookHeaders | Record<string, string | string[] | undefined>, name: string): string | undefined {
  if (typeof (headers as WebhookHeaders).get === "function") return (headers as WebhookHeaders).get(name) ?? undefined;
  const value = (headers as Record<string, string | string[] | undefined>)[name];
  return Array.isArray(value) ? value[0] : value;
}

function standardKey(secret: string): Uint8Array {
  const text = secret.startsWith("whsec_") ? secret.slice("whsec_".length) : secret;
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    throw new TypeError("cannot use webhook secret: it is no base64; copy it whole, with its prefix whsec_");
  }
}

async function hmac(key: Uint8Array, data: Uint8Array): Promise<Uint8Array> {
  const imported = await crypto.subtle.importKey("raw", key as BufferSource, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, data as BufferSource));
}

function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** equal takes the same time wherever two texts of one length differ. */
function equal(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
