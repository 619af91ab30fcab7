/** The headers of every answer. */
import { parseDictionary, parseList, Token } from "structured-headers";
import { describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { type Answers, FINGERPRINT, makeAnswers, named } from "./answers.ts";
import { doorway, picture, type Sent } from "./doorway.ts";

const door = doorway({ services: { portrait: { max_body_mb: 0.1 } } });
const TIMINGS = new Set(["auth", "limit", "cache", "queue", "origin", "store"]);
let kept: Promise<Answers> | undefined;
const answers = () => (kept ??= makeAnswers(door));

async function all(): Promise<[name: string, answer: Answer][]> {
  const { authenticated, open, results } = await answers();
  return Object.entries({ ...authenticated, ...open, ...results });
}

const phases = (answer: Answer) => (answer.header("server-timing") ?? "").split(", ").map((part) => part.split(";")[0]);

describe("X-Request-Id", () => {
  test("appears once on every answer and is always new", async () => {
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

  test("is ours even if the caller sends one, which comes back as X-Client-Request-Id", async () => {
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

  test("of a caller does not come back if it is invalid", async () => {
    for (const own of ["", "a b", "a".repeat(129), "a,b", "ä", "<script>", "a\tb", "a.b", "a:b", "../x"]) {
      const answer = await door.ask("/health", { headers: { "x-request-id": own } });
      expect(answer.header("x-client-request-id"), own).toBe(null);
      expect(answer.header("x-request-id")).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
    }
  });
});

describe("Server-Timing", () => {
  test("contains only the six phases, each at most once, in ms", async () => {
    for (const [name, answer] of await all()) {
      const header = answer.header("server-timing");
      if (header === null) continue;
      for (const part of header.split(", ")) expect(part, name).toMatch(/^[a-z]+;dur=\d+(\.\d+)?$/);
      expect(new Set(phases(answer)).size, name).toBe(phases(answer).length);
      for (const phase of phases(answer)) expect(TIMINGS.has(phase ?? ""), `${name}: ${phase}`).toBe(true);
    }
  });

  test("has auth on every authenticated answer, and the other phases as far as they happened", async () => {
    const { authenticated } = await answers();
    for (const [name, answer] of Object.entries(authenticated)) expect(phases(answer), name).toContain("auth");
    expect(phases(named(authenticated, "miss"))).toEqual(expect.arrayContaining([...TIMINGS]));
    expect(phases(named(authenticated, "hit"))).toContain("cache");
    for (const phase of ["queue", "origin"]) expect(phases(named(authenticated, "hit"))).not.toContain(phase);
    expect(phases(named(authenticated, "read"))).toContain("origin");
    expect(phases(named(authenticated, "read"))).not.toContain("queue");
    expect(phases(named(authenticated, "400 invalid_field"))).not.toContain("origin");
  });
});

describe("Cache-Status", () => {
  test("has the documented forms on service routes", async () => {
    const { authenticated } = await answers();
    const forms: Record<string, RegExp> = {
      miss: /^portico; fwd=miss; stored$/,
      hit: /^portico; hit; ttl=\d+$/,
      bypass: /^portico; fwd=bypass$/,
      "no-store": /^portico; fwd=bypass$/,
      sound: /^portico; fwd=miss; stored$/,
      read: /^portico; fwd=bypass$/,
      "504 not_cached": /^portico; fwd=miss$/,
    };
    for (const [name, form] of Object.entries(forms))
      expect(authenticated[name]?.header("cache-status"), name).toMatch(form);
    const ttl = Number(/\d+$/.exec(authenticated["hit"]?.header("cache-status") ?? "")?.[0]);
    expect(ttl).toBeGreaterThan(86_000);
    expect(ttl).toBeLessThanOrEqual(86_400);
  });

  test("is an RFC 9211 list wherever it appears", async () => {
    for (const [name, answer] of await all()) {
      const header = answer.header("cache-status");
      if (header === null) continue;
      const [[cache, parameters] = []] = parseList(header);
      expect(cache instanceof Token && cache.toString() === "portico", `${name}: ${header}`).toBe(true);
      expect(parameters?.has("hit") !== parameters?.has("fwd"), `${name}: ${header}`).toBe(true);
    }
  });
});

test("X-Portico-Card names the card that ran the request, and is absent if none did", async () => {
  const { authenticated, open } = await answers();
  for (const name of ["miss", "bypass", "no-store", "sound", "stream"]) {
    const answer = named(authenticated, name);
    const run = door.park.runs().find(({ id }) => id === answer.header("x-request-id"));
    expect(run?.card, name).toBeDefined();
    expect(answer.header("x-portico-card"), name).toBe(run?.card);
  }
  for (const name of ["400 invalid_field", "413", "504 not_cached", "fingerprint", "404 of a result"]) {
    expect(authenticated[name]?.header("x-portico-card"), name).toBe(null);
  }
  for (const [name, answer] of Object.entries(open)) expect(answer.header("x-portico-card"), name).toBe(null);
});

describe("Cache-Control", () => {
  test("is no-store on every answer that is not a result", async () => {
    const { authenticated, open } = await answers();
    for (const [name, answer] of Object.entries({ ...authenticated, ...open })) {
      expect(answer.header("cache-control"), name).toBe("no-store");
    }
  });

  test("lets only the owner keep a result, for the rest of its life", async () => {
    for (const [name, answer] of Object.entries((await answers()).results)) {
      const parts = parseDictionary(answer.header("cache-control") ?? "");
      expect([...parts.keys()].toSorted(), name).toEqual(["immutable", "max-age", "private"]);
    }
  });
});

test("an answer with a body has a content type, and no answer names our software or an origin", async () => {
  const hosts = door.park.cards.map(({ origin }) => new URL(origin).host);
  for (const [name, answer] of await all()) {
    if (answer.body.length > 0) expect(answer.header("content-type"), name).not.toBe(null);
    for (const header of ["server", "x-powered-by", "via", "set-cookie"])
      expect(answer.header(header), `${name}: ${header}`).toBe(null);
    for (const host of hosts) expect(JSON.stringify(answer.headers), name).not.toContain(host);
  }
});
