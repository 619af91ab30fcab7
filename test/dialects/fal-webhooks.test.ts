/**
 * fal's webhooks, verified as fal's receivers do (SHA-256 and Ed25519 with the published keys) and as Standard
 * Webhooks.
 */
import { createHash, createPublicKey, type JsonWebKey, verify } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { doorway, expectOk } from "../contract/doorway.ts";
import type { Seen } from "../contract/origin.ts";
import { deliveryOf, headerOf, heard, receiver, replay, secretOf } from "../jobs/receiver.ts";
import { show } from "../jobs/shown.ts";
import { fal, type Output, raised, SLOW, SMALL } from "./fal-client.ts";

const door = doorway();
const APP = "portico/portrait";
const TOLERANCE_S = 300;

interface Told {
  request_id: string;
  gateway_request_id: string;
  status: "OK" | "ERROR";
  error?: string;
  payload: Output & { detail: unknown };
}

async function keys(): Promise<JsonWebKey[]> {
  const answer = expectOk(await door.ask("/fal/.well-known/jwks.json", { key: null }));
  return (JSON.parse(answer.text) as { keys: JsonWebKey[] }).keys;
}

/** Verifies a webhook as fal documents it. */
async function isVerified(seen: Seen, body = seen.body): Promise<boolean> {
  const [id, user, timestamp, signature] = ["request-id", "user-id", "timestamp", "signature"].map((name) =>
    headerOf(seen, `x-fal-webhook-${name}`),
  );
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_S) return false;
  const message = Buffer.from([id, user, timestamp, createHash("sha256").update(body).digest("hex")].join("\n"));
  return (await keys()).some((key) =>
    verify(null, message, createPublicKey({ key, format: "jwk" }), Buffer.from(signature ?? "", "hex")),
  );
}

const toldIn = (seen: Seen): Told => JSON.parse(seen.body.toString()) as Told;

test("the end of a request is delivered with its output and with both signatures", async () => {
  const there = await receiver();
  const { request_id: id } = await fal(door).queue.submit(APP, {
    input: { prompt: "a quay", seed: 11, ...SMALL },
    webhookUrl: `${there.url}/hook?a=b`,
  });
  const [seen] = await heard(there, 1);
  if (seen === undefined) throw new Error("nothing came");
  expect(seen).toMatchObject({ method: "POST", target: "/hook?a=b" });
  const told = toldIn(seen);
  expect(told).toMatchObject({ request_id: id, gateway_request_id: id, status: "OK", payload: { seed: 11 } });
  expect(told.payload.images).toMatchObject([{ width: 64, height: 64, content_type: "image/png" }]);
  expect(headerOf(seen, "x-fal-webhook-request-id")).toBe(id);
  expect(await isVerified(seen)).toBe(true);
  expect(await isVerified(seen, Buffer.from(seen.body.toString().replace("OK", "KO")))).toBe(false);
  const headers = Object.fromEntries(seen.headers.map(([name, value]) => [name.toLowerCase(), value]));
  expect(new Webhook(await secretOf(door)).verify(seen.body.toString(), headers)).toEqual(told);
});

test("a failed or canceled request is delivered as an ERROR with its detail", async () => {
  const there = await receiver();
  const client = fal(door);
  const webhookUrl = there.url;
  const { request_id: failed } = await client.queue.submit(APP, { input: { prompt: 7, ...SMALL }, webhookUrl });
  const [first] = await heard(there, 1);
  const { request_id: canceled } = await client.queue.submit(APP, { input: { prompt: "x", ...SLOW }, webhookUrl });
  await client.queue.cancel(APP, { requestId: canceled });
  const [, second] = await heard(there, 2);
  if (first === undefined || second === undefined) throw new Error("nothing came");
  const error = await raised(client.queue.result(APP, { requestId: failed }));
  expect(toldIn(first)).toMatchObject({ request_id: failed, status: "ERROR", error: error.message });
  expect(toldIn(first).payload.detail).toEqual(error.body.detail);
  expect(toldIn(second)).toMatchObject({ request_id: canceled, status: "ERROR" });
  for (const seen of [first, second]) expect(await isVerified(seen)).toBe(true);
});

test("a replayed webhook is signed again", async () => {
  const there = await receiver();
  const { request_id: id } = await fal(door).queue.submit(APP, {
    input: { prompt: "x", ...SMALL },
    webhookUrl: there.url,
  });
  const delivery = await deliveryOf(door, id, ({ status }) => status === "delivered");
  await replay(door, delivery.id);
  const [, again] = await heard(there, 2);
  if (again === undefined) throw new Error("nothing came");
  expect(await isVerified(again)).toBe(true);
  expect((await show(door, id)).status).toBe("succeeded");
});

test("a webhook URL that may not be called is refused on submission", async () => {
  for (const webhookUrl of ["http://10.0.0.1/", "https://localhost/", "ftp://example.com/", "nonsense"]) {
    const error = await raised(fal(door).queue.submit(APP, { input: { prompt: "x" }, webhookUrl }));
    expect([error.name, error.status]).toEqual(["ValidationError", 422]);
    expect(error.body.detail).toMatchObject([{ loc: ["body", "fal_webhook"] }]);
  }
});

test("the key set has only public keys: of the previous, the current and the next quarter", async () => {
  const published = await keys();
  expect(published).toHaveLength(3);
  for (const key of published) expect(Object.keys(key).toSorted()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
  expect(new Set(published.map(({ x }) => x)).size).toBe(3);
  expect(await keys()).toEqual(published);
});
