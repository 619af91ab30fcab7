/** Attacks through headers: false claims about the caller, and text meant for the origin, the log or the answer. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { doorway, errorOf, expectOk, picture } from "../contract/doorway.ts";
import { answerEcho, listAny, Origin, valuesOf } from "../contract/origin.ts";

const door = doorway();
let origin: Origin;
/** Value of every header that must not reach the origin. */
const SPOOFED = "spoofed-by-the-caller";
const KIB = 1024;

beforeAll(async () => {
  origin = await Origin.open();
  await listAny(door, origin);
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerEcho;
});
afterAll(() => origin.close());

/** IIS-style servers and many frameworks let these headers replace the request's own method, host or path. */
const ANOTHER_REQUEST = [
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-host",
  "x-original-uri",
  "x-original-url",
  "x-rewrite-url",
  "x-host",
];

/** Headers that only proxies, platforms and this program set. */
const NOT_THEIRS = [
  ...ANOTHER_REQUEST,
  ...["for", "host", "proto", "port", "by", "prefix", "server", "ssl", "scheme", "user"].map((n) => `x-forwarded-${n}`),
  "forwarded",
  "via",
  "x-real-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "true-client-ip",
  ...["connecting-ip", "connecting-ipv6", "ray", "visitor", "worker", "access-client-id", "access-client-secret"].map(
    (n) => `cf-${n}`,
  ),
  "cdn-loop",
  "x-portico-lease",
  "x-portico-card",
  "x-portico-tenant",
  "x-request-id",
  "cookie",
  "proxy-authorization",
  "x-api-key",
];

const run = (headers: Record<string, string | string[]>) => door.ask("/any/run", { json: {}, headers });

describe("a header that callers must not set does not reach the origin:", () => {
  const WAYS: Record<string, (name: string) => string> = {
    "as it is written": (name) => name,
    "in capitals": (name) => name.toUpperCase(),
    "with strokes below, which many servers take for hyphens": (name) => name.replaceAll("-", "_"),
  };
  for (const [way, written] of Object.entries(WAYS)) {
    test(way, async () => {
      for (const name of NOT_THEIRS) {
        const own = name === "x-api-key" && written(name).toLowerCase() === name;
        const value = own ? door.ownKey : SPOOFED;
        for (const sent of [value, [value, value]].slice(0, own ? 1 : 2)) {
          const answer = expectOk(await run({ [written(name)]: sent }));
          const { headers } = origin.taken();
          expect(JSON.stringify(headers), name).not.toContain(SPOOFED);
          expect(JSON.stringify(headers), name).not.toContain(door.ownKey);
          expect(valuesOf({ headers }, "x-request-id"), name).toEqual([answer.header("x-request-id")]);
          expect(answer.text, name).not.toContain(SPOOFED);
        }
      }
    });
  }

  test("Connection cannot remove a header that Portico sets, and a header that it names is dropped", async () => {
    const ours = [
      "x-request-id",
      "x-forwarded-host",
      "x-forwarded-proto",
      "x-portico-lease",
      "accept-encoding",
      "content-type",
    ];
    for (const connection of [
      ours.join(", "),
      ours.join(",").toUpperCase(),
      "close, *",
      `close,${",".repeat(5_000)}x-mine`,
    ]) {
      const answer = expectOk(await run({ connection, "x-mine": "1", "x-auth": SPOOFED }));
      const { headers } = origin.taken();
      for (const name of ours)
        expect(valuesOf({ headers }, name), `${name} by ${connection.slice(0, 40)}`).toHaveLength(1);
      expect(valuesOf({ headers }, "x-request-id")).toEqual([answer.header("x-request-id")]);
    }
    expectOk(await run({ connection: "X-Auth, close", "x-auth": SPOOFED }));
    expect(JSON.stringify(origin.taken().headers)).not.toContain(SPOOFED);
  });

  test("the origin sees its own Host, whatever Host the caller sends", async () => {
    for (const host of ["evil.example", "127.0.0.1:9", "metadata.google.internal", "a".repeat(200)]) {
      const answer = await run({ host });
      expect(answer.status, host).toBeLessThan(500);
      for (const { headers } of origin.seen.splice(0)) {
        expect(valuesOf({ headers }, "host"), host).toEqual([new URL(origin.url).host]);
      }
    }
  });
});

describe("headers that claim another identity", () => {
  test("do not change the tenant, the service, the scope or the method", async () => {
    const key = await door.key({ services: ["cosyvoice2"], scopes: ["results"] });
    const tenant = await door.tenant();
    for (const name of [
      "x-tenant",
      "x-portico-tenant",
      "x-portico-service",
      "x-scopes",
      "x-original-url",
      "x-rewrite-url",
    ]) {
      const answer = await door.paint({}, { key, headers: { [name]: tenant, "x-http-method-override": "GET" } });
      expect(errorOf(answer), name).toMatchObject({ reason: "scope" });
    }
    const override = await door.ask("/v1/results/x", {
      headers: { "x-http-method-override": "DELETE", "x-method": "DELETE" },
    });
    expect(override.status).toBe(404);
    expect((await door.ask("/health", { method: "POST", headers: { "x-http-method-override": "GET" } })).status).toBe(
      405,
    );
  });
});

describe("X-Request-Id", () => {
  test("is neither echoed nor logged if it is invalid", async () => {
    const bad = ["a b", "a\tb", "a;b", 'a"b', "{}", "<b>", "../x", "%0d%0aX: y", "é", "a".repeat(129), "a\\nb"];
    for (const id of bad) {
      const answer = await run({ "x-request-id": id });
      expectOk(answer);
      expect(answer.header("x-client-request-id"), id.slice(0, 20)).toBe(null);
      expect(answer.header("x-request-id")).toMatch(/^req_[0-9a-f]{32}$/);
    }
    const log = await readFile(join(door.portico.stateDir, "portico.log"), "utf8");
    for (const id of bad.filter((each) => each.length > 5)) expect(log).not.toContain(id);
  });

  test("that equals another tenant's request id finds each tenant's own request", async () => {
    const first = await door.paint(picture());
    const id = first.header("x-request-id") ?? "";
    const other = await door.key();
    const second = expectOk(await door.paint({}, { key: other, headers: { "x-request-id": id } }));
    const found = async (key: string) =>
      JSON.parse((await door.ask(`/v1/requests/${id}`, { key })).text) as { id: string };
    expect((await found(door.ownKey)).id).toBe(id);
    expect((await found(other)).id).toBe(second.header("x-request-id"));
  });
});

describe("too many or too long headers", () => {
  test("are refused or passed on, and Portico keeps answering", async () => {
    const many = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`x-many-${i}`, "v"]));
    const long = Object.fromEntries(
      [
        "accept",
        "accept-language",
        "cache-control",
        "content-type",
        "if-none-match",
        "range",
        "origin",
        "prefer",
        "x-timeout-s",
      ].map((name) => [name, "a,".repeat(5 * KIB)]),
    );
    for (const headers of [many, long, { "x-one": "v".repeat(100 * KIB) }]) {
      const answer = await run(headers);
      expect(answer.status).toBeLessThan(500);
      expectOk(await run({}));
    }
  });

  test("that Portico reads cause no 5xx, whatever they contain", async () => {
    const names = [
      "accept",
      "accept-language",
      "cache-control",
      "content-type",
      "if-none-match",
      "if-range",
      "range",
      "x-timeout-s",
      "prefer",
      "idempotency-key",
    ];
    const values = [
      "",
      ",",
      ";",
      "q=1;q=1",
      '"',
      '"\\',
      "bytes=-",
      "bytes=0-0,1-1",
      "NaN",
      "1e9",
      "-1",
      "*",
      "é",
      'a="b"; c',
      "=".repeat(1_000),
      ";q=".repeat(1_000),
    ];
    for (const name of names) {
      for (const value of values) {
        const at = `${name}: ${value.slice(0, 20)}`;
        expect((await run({ [name]: value })).status, at).toBeLessThan(500);
        expect((await door.ask("/any/read", { headers: { [name]: value } })).status, at).toBeLessThan(500);
      }
    }
  });
});
