/** One answer of every kind that needs neither faults nor load, for what must hold on all of them. */
import type { Answer } from "../support/raw.ts";
import { type Doorway, expectOk, linksOf, picture, type Sent, targetOf } from "./doorway.ts";

/** Limits of the tenant that asks. */
export const LIMITS = { requests_per_minute: 5_000, burst: 500, concurrent: 7 };
export const FINGERPRINT = { json: { service: "portrait", path: "txt2img", input: { seed: 1 } } };

export interface Answers {
  /** Answers to requests with a valid key. */
  authenticated: Record<string, Answer>;
  open: Record<string, Answer>;
  /** Answers that carry a result, whole or in part. */
  results: Record<string, Answer>;
}
/** Needs a `portrait` service with a `max_body_mb` of at most 0.1. */
export async function makeAnswers(door: Doorway): Promise<Answers> {
  const key = await door.key({ limits: LIMITS });
  const ask = (target: string, sent: Sent = {}) => door.ask(target, { key, ...sent });
  const json = picture();
  const paint = (body: object, sent: Sent = {}) => door.paint(body, { key, ...sent });
  const miss = expectOk(await paint(json));
  const [url = ""] = linksOf(miss);
  const { pathname } = new URL(url);
  const whole = expectOk(await ask(pathname));
  const etag = whole.header("etag") ?? "";
  const [gone = ""] = linksOf(expectOk(await paint({})));
  const answered = {
    miss,
    hit: expectOk(await paint(json)),
    bypass: expectOk(await paint({ seed: -1 })),
    "no-store": expectOk(await paint(json, { headers: { "cache-control": "no-store" } })),
    sound: expectOk(await door.speak({ text: "headers" }, { key })),
    stream: expectOk(await door.speak({ text: "headers", stream: true }, { key })),
    read: expectOk(await ask("/sdapi/v1/sd-models")),
    "the origin's own 422": await paint({ sampler_name: 5 }),
    "400 invalid_field": await paint({ width: 9_999 }),
    "400 malformed_json": await ask("/sdapi/v1/txt2img", {
      body: "{",
      headers: { "content-type": "application/json" },
    }),
    "413": await paint({ prompt: "x".repeat(200_000) }),
    "504 not_cached": await paint({}, { headers: { "cache-control": "only-if-cached" } }),
    "404 of a result": await ask("/v1/results/none"),
    "404 of a request": await ask("/v1/requests/none"),
    fingerprint: expectOk(await ask("/v1/fingerprint", FINGERPRINT)),
    "400 of a fingerprint": await ask("/v1/fingerprint", { json: {} }),
    request: expectOk(await ask(`/v1/requests/${miss.header("x-request-id")}`)),
    "403 scope": await ask(pathname, { key: await door.key({ scopes: ["usage"], limits: LIMITS }) }),
    "416 of a result": await ask(pathname, { headers: { range: "bytes=99999999-" } }),
    "a deleted result": await ask(new URL(gone).pathname, { method: "DELETE" }),
  };
  const results = {
    whole,
    head: await ask(pathname, { method: "HEAD" }),
    signed: expectOk(await door.ask(targetOf(url), { key: null })),
    partial: await ask(pathname, { headers: { range: "bytes=0-9" } }),
    unchanged: await ask(pathname, { headers: { "if-none-match": etag } }),
  };
  const open = {
    health: expectOk(await ask("/health", { key: null })),
    ready: await ask("/ready", { key: null }),
    status: expectOk(await ask("/cluster/status", { key: null })),
    openapi: expectOk(await ask("/openapi.json", { key: null })),
    docs: expectOk(await ask("/docs", { key: null })),
    "401 missing": await paint({}, { key: null }),
    "401 unknown": await paint({}, { key: "ptk_live_nobody_0" }),
    "401 of the admin API": await ask("/admin/v1/services"),
    "400 bad_path": await ask("/sdapi//v1"),
    "404": await ask("/nothing"),
    "405": await ask("/health", { method: "DELETE" }),
    "403 bad_signature": await door.ask(`${targetOf(url)}x`, { key: null }),
  };
  return { authenticated: answered, open, results };
}

export function named(answers: Record<string, Answer>, name: string): Answer {
  const answer = answers[name];
  if (answer === undefined) throw new Error(`no answer is called ${name}`);
  return answer;
}
