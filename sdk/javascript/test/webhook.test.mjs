import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { SignatureError, verifyWebhook } from "../dist/index.js";

const secret = "whsec_" + Buffer.from("a secret of twenty-four.").toString("base64");
const body = JSON.stringify({ jobId: "job_1", status: "completed", tags: { user: "ü" } });

function standard(timestamp = Math.floor(Date.now() / 1000)) {
  const key = Buffer.from(secret.slice(6), "base64");
  const signature = createHmac("sha256", key).update(`msg_1.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": "msg_1", "webhook-timestamp": String(timestamp), "webhook-signature": `v1,${"A".repeat(44)} v1,${signature}` };
}

test("the standard headers verify, from an object and from Headers", async () => {
  assert.equal((await verifyWebhook(body, standard(), secret)).jobId, "job_1");
  assert.equal((await verifyWebhook(Buffer.from(body), new Headers(standard()), secret)).tags.user, "ü");
});

test("the single header verifies", async () => {
  const headers = { "x-webhook-signature": "sha256=" + createHmac("sha256", secret).update(body).digest("hex") };
  assert.equal((await verifyWebhook(body, headers, secret)).status, "completed");
  await assert.rejects(verifyWebhook(body + " ", headers, secret), SignatureError);
});

test("another body, another secret, an old timestamp and no signature are refused", async () => {
  await assert.rejects(verifyWebhook(body + " ", standard(), secret), SignatureError);
  await assert.rejects(verifyWebhook(body, standard(), "whsec_" + Buffer.from("another one of 24 bytes.").toString("base64")), SignatureError);
  await assert.rejects(verifyWebhook(body, standard(1_600_000_000), secret), SignatureError);
  await assert.rejects(verifyWebhook(body, {}, secret), SignatureError);
});
