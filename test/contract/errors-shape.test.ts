/** The exact shape of the canonical error, its languages and its media types. */
import { describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, linksOf, type Sent } from "./doorway.ts";

const door = doorway();
const MEMBERS = ["code", "type", "message", "param", "reason", "retryable", "started", "request_id", "timestamp"];
const CHINESE = /\p{Script=Han}/u;
const FINGERPRINT = "/v1/fingerprint";

/** One refusal of every code that needs neither faults nor load. */
const REFUSALS: Record<string, [target: string, sent: Sent]> = {
  malformed_json: [FINGERPRINT, { body: "{", headers: { "content-type": "application/json" } }],
  invalid_field: ["/sdapi/v1/txt2img", { json: { width: 4096 } }],
  bad_path: ["/sdapi/v1/../txt2img", {}],
  missing: ["/sdapi/v1/sd-models", { key: null }],
  not_found: ["/nothing/here", {}],
  unlisted: ["/sdapi/v1/options", {}],
  method_not_allowed: [FINGERPRINT, { method: "GET" }],
  unsupported_media_type: [FINGERPRINT, { body: "{}", headers: { "content-type": "text/plain" } }],
  bad_signature: ["/v1/results/none?exp=1&kid=k1&sig=x", { key: null }],
  not_cached: ["/sdapi/v1/txt2img", { json: { seed: 1 }, headers: { "cache-control": "only-if-cached" } }],
  admin: ["/admin/v1/services", {}],
};
const refuse = (name: string, headers: Record<string, string> = {}): Promise<Answer> => {
  const [target, sent] = REFUSALS[name] ?? ["/nothing", {}];
  return door.ask(target, { ...sent, headers: { ...sent.headers, ...headers } });
};

describe("the error has the canonical members and no other:", () => {
  for (const name of Object.keys(REFUSALS)) {
    test(name, async () => {
      const answer = await refuse(name);
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.header("content-type")).toMatch(/^application\/json(;|$)/);
      expect(Object.keys(JSON.parse(answer.text) as object)).toEqual(["error"]);
      const error = errorOf(answer);
      expect(Object.keys(error).toSorted()).toEqual(MEMBERS.toSorted());
      expect(error.code).toMatch(/^[a-z_]+$/);
      expect(error.type).toMatch(/^[a-z_]+$/);
      expect(error.message.length).toBeGreaterThan(5);
      expect([null, "string"]).toContain(error.param === null ? null : typeof error.param);
      expect([null, "string"]).toContain(error.reason === null ? null : typeof error.reason);
      expect(error.retryable).toBeTypeOf("boolean");
      expect(error.started).toBe("no");
      expect(error.request_id).toBe(answer.header("x-request-id"));
      expect(error.timestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      expect(Math.abs(Date.parse(error.timestamp) - Date.now())).toBeLessThan(10_000);
    });
  }
});

test("an error that a retry cannot fix is not retryable", async () => {
  for (const name of Object.keys(REFUSALS).filter((each) => each !== "not_cached")) {
    expect(errorOf(await refuse(name)).retryable, name).toBe(false);
  }
});

describe("the message follows Accept-Language:", () => {
  const LANGUAGES: [accept: string, chinese: boolean][] = [
    ["zh", true],
    ["zh-CN", true],
    ["zh-Hans-CN, en;q=0.5", true],
    ["en;q=0.1, zh;q=0.9", true],
    ["fr, zh;q=0.5", true],
    ["en", false],
    ["en-GB, zh;q=0.9", false],
    ["zh;q=0, en", false],
    ["fr", false],
    ["*", false],
    [";;,q=", false],
  ];
  for (const [accept, chinese] of LANGUAGES) {
    test(`${accept} is ${chinese ? "Chinese" : "English"}`, async () => {
      const answer = await refuse("not_found", { "accept-language": accept });
      expect(CHINESE.test(errorOf(answer).message), errorOf(answer).message).toBe(chinese);
    });
  }

  test("every reason has a Chinese message, and nothing but the message changes", async () => {
    for (const name of Object.keys(REFUSALS)) {
      const english = errorOf(await refuse(name));
      const chinese = errorOf(await refuse(name, { "accept-language": "zh-CN" }));
      expect(CHINESE.test(english.message), name).toBe(false);
      expect(CHINESE.test(chinese.message), `${name}: ${chinese.message}`).toBe(true);
      const rest = { message: null, request_id: null, timestamp: null };
      expect({ ...chinese, ...rest }, name).toEqual({ ...english, ...rest });
    }
  });
});

async function expectPlain(accept: string): Promise<void> {
  const answer = await refuse("not_found", { accept });
  expect(answer.header("content-type"), accept).toMatch(/^application\/json/);
  expect(Object.keys(JSON.parse(answer.text) as object), accept).toEqual(["error"]);
}

describe("problem details", () => {
  test("are added beside the error on request", async () => {
    for (const name of Object.keys(REFUSALS)) {
      const answer = await refuse(name, { accept: "application/problem+json" });
      expect(answer.header("content-type"), name).toMatch(/^application\/problem\+json(;|$)/);
      const body: Record<string, unknown> = JSON.parse(answer.text);
      expect(Object.keys(body).toSorted(), name).toEqual(["detail", "error", "instance", "status", "title", "type"]);
      expect(body["status"]).toBe(answer.status);
      for (const member of ["type", "title", "detail", "instance"]) expect(body[member], member).toBeTypeOf("string");
      expect(Object.keys(errorOf(answer)).toSorted(), name).toEqual(MEMBERS.toSorted());
    }
  });

  test("are sent when they are accepted among other types", async () => {
    const answer = await refuse("not_found", { accept: "application/problem+json, application/json;q=0.5" });
    expect(answer.header("content-type")).toMatch(/^application\/problem\+json/);
  });

  test("are not sent to a client that accepts anything", async () => {
    for (const accept of ["*/*", "application/json", "image/png"]) await expectPlain(accept);
  });

  test("are not sent when q=0 refuses them, in any spelling", async () => {
    for (const q of ["q=0", "Q=0", " q=0.000", "profile=x; q=0"]) {
      await expectPlain(`application/problem+json;${q}`);
      await expectPlain(`application/problem+json;${q}, application/json`);
    }
  });

  test("are sent with any weight above 0", async () => {
    const answer = await refuse("not_found", { accept: "application/json, Application/Problem+JSON;q=0.001" });
    expect(answer.header("content-type")).toMatch(/^application\/problem\+json/);
  });
});

test("a refused HEAD has the status of the refusal and no body", async () => {
  const [url = ""] = linksOf(expectOk(await door.paint()));
  const answer = await door.ask(new URL(url).pathname, { method: "HEAD", key: null });
  expect(answer.status).toBe(401);
  expect(answer.body).toHaveLength(0);
});

test("a refusal reveals no origin, key or source location", async () => {
  const origins = door.park.cards.map((card) => new URL(card.origin).host);
  for (const name of Object.keys(REFUSALS)) {
    const answer = await refuse(name);
    const said = answer.text + JSON.stringify(answer.headers);
    for (const secret of [...origins, door.ownKey, "node_modules", ".ts:", "    at "])
      expect(said, name).not.toContain(secret);
  }
});
