/** Section 4: the headers of every answer, whatever it is an answer to. */
import { parseDictionary, parseList } from "structured-headers";
import { describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, type Sent, targetOf } from "./doorway.ts";

const LIMITS = { requests_per_minute: 5_000, burst: 500, concurrent: 7 };
const door = doorway({ services: { portrait: { max_body_mb: 0.1 } } });
const TIMINGS = new Set(["auth", "limit", "cache", "queue", "origin", "store"]);
const FINGERPRINT = { json: { service: "portrait", path: "txt2img", input: { seed: 1 } } };

interface Answers {
  /** Answers to requests that showed a good key. */
  authenticated: Record<string, Answer>;
  open: Record<string, Answer>;
  /** Bytes of a result, whole or in part. */
  results: Record<string, Answer>;
}
let kept: Promise<Answers> | undefined;
/** One answer of every kind, made once. */
const answers = () => (kept ??= makeAnswers());

async function makeAnswers(): Promise<Answers> {
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
    "416": await ask(pathname, { headers: { range: "bytes=99999999-" } }),
  };
  return { authenticated: answered, open, results };
}

async function all(): Promise<[name: string, answer: Answer][]> {
  const { authenticated, open, results } = await answers();
  return Object.entries({ ...authenticated, ...open, ...results });
}

describe("X-Request-Id", () => {
  test("stands once on every answer and is always new", async () => {
    const ids = new Set<string>();
    const list = await all();
    for (const [name, answer] of list) {
      const mine = answer.headers.filter(([header]) => header === "x-request-id").map(([, value]) => value);
      expect(mine, name).toHaveLength(1);
      expect(mine[0], name).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
      ids.add(mine[0] ?? "");
    }
    expect(ids.size).toBe(list.length);
  });

  test("is ours even when the caller brings one, and the caller's comes back as X-Client-Request-Id", async () => {
    const id = `${"a".repeat(60)}-_${"Z9".repeat(33)}`;
    expect(id).toHaveLength(128);
    const calls: [target: string, sent: Sent][] = [
      ["/sdapi/v1/sd-models", {}],
      ["/sdapi/v1/txt2img", { json: picture() }],
      ["/sdapi/v1/txt2img", { json: { width: 9_999 } }],
      ["/v1/fingerprint", FINGERPRINT],
      ["/v1/results/none", {}],
      ["/health", { key: null }],
      ["/sdapi/v1/sd-models", { key: null }],
      ["/nothing", {}],
      ["/a//b", {}],
    ];
    for (const own of [id, "a", "_", "-"]) {
      for (const [target, sent] of calls) {
        const answer = await door.ask(target, { ...sent, headers: { "x-request-id": own } });
        expect(answer.header("x-client-request-id"), target).toBe(own);
        expect(answer.header("x-request-id"), target).not.toBe(own);
      }
    }
  });

  test("of a caller that is no id does not come back", async () => {
    for (const own of ["", "a b", "a".repeat(129), "a,b", "ä", "<script>", "a\tb", "a.b", "a:b", "../x"]) {
      const answer = await door.ask("/health", { headers: { "x-request-id": own } });
      expect(answer.header("x-client-request-id"), own).toBe(null);
      expect(answer.header("x-request-id")).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
    }
  });
});

describe("Server-Timing", () => {
  const names = (answer: Answer) =>
    (answer.header("server-timing") ?? "").split(", ").map((part) => part.split(";")[0]);

  test("holds nothing but the six phases, each once, in ms", async () => {
    for (const [name, answer] of await all()) {
      const header = answer.header("server-timing");
      if (header === null) continue;
      for (const part of header.split(", ")) expect(part, name).toMatch(/^[a-z]+;dur=\d+(\.\d+)?$/);
      expect(new Set(names(answer)).size, name).toBe(names(answer).length);
      for (const phase of names(answer)) expect(TIMINGS.has(phase ?? ""), `${name}: ${phase}`).toBe(true);
    }
  });

  test("has auth on every authenticated answer, and the rest as far as they happened", async () => {
    const { authenticated } = await answers();
    for (const [name, answer] of Object.entries(authenticated)) expect(names(answer), name).toContain("auth");
    expect(names(authenticated["miss"] as Answer)).toEqual(expect.arrayContaining([...TIMINGS]));
    expect(names(authenticated["hit"] as Answer)).toContain("cache");
    for (const phase of ["queue", "origin"]) expect(names(authenticated["hit"] as Answer)).not.toContain(phase);
    expect(names(authenticated["read"] as Answer)).toContain("origin");
    expect(names(authenticated["read"] as Answer)).not.toContain("queue");
    expect(names(authenticated["400 invalid_field"] as Answer)).not.toContain("origin");
  });
});

describe("Cache-Status", () => {
  test("has the contract's forms on service routes", async () => {
    const { authenticated } = await answers();
    const forms: Record<string, RegExp> = {
      miss: /^portico; fwd=miss; stored$/,
      hit: /^portico; hit; ttl=\d+$/,
      bypass: /^portico; fwd=bypass$/,
      "no-store": /^portico; fwd=bypass$/,
      sound: /^portico; fwd=miss; stored$/,
    };
    for (const [name, form] of Object.entries(forms))
      expect(authenticated[name]?.header("cache-status"), name).toMatch(form);
    const ttl = Number(/\d+$/.exec(authenticated["hit"]?.header("cache-status") ?? "")?.[0]);
    expect(ttl).toBeGreaterThan(86_000);
    expect(ttl).toBeLessThanOrEqual(86_400);
  });

  test("is a list of RFC 9211 wherever it stands", async () => {
    for (const [name, answer] of await all()) {
      const header = answer.header("cache-status");
      if (header === null) continue;
      const [[cache, parameters]] = parseList(header) as [[{ toString(): string }, Map<string, unknown>]];
      expect(cache.toString(), name).toBe("portico");
      expect(parameters.has("hit") !== parameters.has("fwd"), `${name}: ${header}`).toBe(true);
    }
  });
});

test("X-Portico-Card names the card that ran it, and stands on no answer that none ran", async () => {
  const { authenticated, open } = await answers();
  for (const name of ["miss", "bypass", "no-store", "sound", "stream"]) {
    const answer = authenticated[name] as Answer;
    const run = door.park.runs().find(({ id }) => id === answer.header("x-request-id"));
    expect(run?.card, name).toBeDefined();
    expect(answer.header("x-portico-card"), name).toBe(run?.card);
  }
  for (const name of ["400 invalid_field", "413", "504 not_cached", "fingerprint", "404 of a result"]) {
    expect(authenticated[name]?.header("x-portico-card"), name).toBe(null);
  }
  for (const [name, answer] of Object.entries(open)) expect(answer.header("x-portico-card"), name).toBe(null);
});

describe("RateLimit-Policy and RateLimit", () => {
  test("the policy stands on every authenticated answer and parses as a structured field", async () => {
    const { authenticated, results } = await answers();
    const { signed: _, ...withKey } = results;
    for (const [name, answer] of Object.entries({ ...authenticated, ...withKey })) {
      const policies = new Map(
        parseList(answer.header("ratelimit-policy") ?? "").map(([item, params]) => [item, params]),
      );
      expect([...policies.keys()], name).toEqual(expect.arrayContaining(["requests", "slots"]));
      expect(policies.get("requests")?.get("q"), name).toBe(LIMITS.requests_per_minute);
      expect(policies.get("requests")?.get("w"), name).toBe(60);
      expect(policies.get("slots")?.get("q"), name).toBe(LIMITS.concurrent);
      expect(policies.get("slots")?.get("qu"), name).toBe("concurrent-requests");
    }
  });

  test("what is left stands where the limit was asked, parses, and falls", async () => {
    const { authenticated } = await answers();
    for (const name of ["miss", "bypass", "sound", "stream", "read"]) {
      const limits = new Map(
        parseList(authenticated[name]?.header("ratelimit") ?? "").map(([item, params]) => [item, params]),
      );
      const left = limits.get("requests")?.get("r");
      expect(left, name).toBeTypeOf("number");
      expect(left as number, name).toBeLessThan(LIMITS.requests_per_minute);
      expect(limits.get("requests")?.get("t") ?? 0, name).toBeTypeOf("number");
    }
    const key = await door.key({ limits: { requests_per_minute: 60, burst: 10 } });
    const lefts: number[] = [];
    for (let i = 0; i < 3; i++) {
      const [[, params]] = parseList((await door.ask("/sdapi/v1/sd-models", { key })).header("ratelimit") ?? "") as [
        [string, Map<string, number>],
      ];
      lefts.push(params.get("r") ?? -1);
    }
    expect(lefts[2]).toBeLessThan(lefts[0] ?? 0);
  });

  test("a hit asks no limit, so it tells none", async () => {
    expect((await answers()).authenticated["hit"]?.header("ratelimit")).toBe(null);
  });

  test("nobody's limits stand on an answer to nobody", async () => {
    for (const [name, answer] of Object.entries((await answers()).open)) {
      if (name === "416") continue;
      expect(answer.header("ratelimit-policy"), name).toBe(null);
      expect(answer.header("ratelimit"), name).toBe(null);
    }
  });
});

describe("Cache-Control", () => {
  test("is no-store on everything that is no result", async () => {
    const { authenticated, open } = await answers();
    for (const [name, answer] of Object.entries({ ...authenticated, ...open })) {
      expect(answer.header("cache-control"), name).toBe("no-store");
    }
  });

  test("lets a result be kept for the rest of its life, by its owner alone", async () => {
    for (const [name, answer] of Object.entries((await answers()).results)) {
      const parts = parseDictionary(answer.header("cache-control") ?? "");
      expect([...parts.keys()].toSorted(), name).toEqual(["immutable", "max-age", "private"]);
    }
  });
});

test("an answer with a body says its type, and no answer names our software or an origin", async () => {
  const hosts = door.park.cards.map(({ origin }) => new URL(origin).host);
  for (const [name, answer] of await all()) {
    if (answer.body.length > 0) expect(answer.header("content-type"), name).not.toBe(null);
    for (const header of ["server", "x-powered-by", "via", "set-cookie"])
      expect(answer.header(header), `${name}: ${header}`).toBe(null);
    for (const host of hosts) expect(JSON.stringify(answer.headers), name).not.toContain(host);
  }
});
