/** CORS: which pages may read answers to a tenant's keys, and which headers a browser gets. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { makeAnswers } from "./answers.ts";
import { allowed, APP, expectClosed, keyOf, LOCAL, preflight, STRANGER } from "./cors.ts";
import { doorway, expectOk, linksOf, picture, targetOf } from "./doorway.ts";
import { answerEcho, listOrigin, Origin } from "./origin.ts";

/** Origins that look like an allowed one. */
const ALIKE = [
  "https://app.example.com.evil.example",
  "https://evil.example/https://app.example.com",
  "https://sub.app.example.com",
  "https://app.example.com:8443",
  "https://app.example.com/",
  "http://app.example.com",
  "HTTPS://APP.EXAMPLE.COM",
  `${APP}, ${STRANGER}`,
  "*",
  "null",
  "",
];
/** Paths for operators and monitors, with and without authentication. */
const CLOSED = [
  "/admin/v1/services",
  "/admin/v1/nothing",
  "/admin",
  "/%61dmin/v1/services",
  "/metrics",
  "/autoscale/portrait",
  "/console",
  "/health",
  "/ready",
  "/cluster/status",
  "/openapi.json",
  "/docs",
];

const door = doorway({ services: { portrait: { max_body_mb: 0.1 } } });
let origin: Origin;
let own: string;
let open: string;
let none: string;

beforeAll(async () => {
  origin = await Origin.open();
  origin.answering = answerEcho;
  const paths = [
    { method: "OPTIONS", path: "thing", as: "run" },
    { method: "GET", path: "thing", as: "run" },
  ];
  await listOrigin(door, origin, "optional", { kind: "http", route: "/optional/", paths });
  own = await keyOf(door, [APP, LOCAL]);
  open = await keyOf(door, ["*"]);
  none = await keyOf(door, []);
});
afterAll(() => origin.close());

const READ = "/sdapi/v1/sd-models";
const read = (key: string | null, page: string) => door.ask(READ, { key, headers: { origin: page } });
const exposed = (answer: Answer) => (answer.header("access-control-expose-headers") ?? "").split(", ");
const varies = (answer: Answer) => (answer.header("vary") ?? "").toLowerCase().split(/, */).includes("origin");

describe("an answer to a tenant's key", () => {
  test("may be read by pages of the tenant's origins, and names the origin of the page", async () => {
    for (const page of [APP, LOCAL]) {
      const answer = expectOk(await read(own, page));
      expect(allowed(answer)).toBe(page);
      expect(varies(answer)).toBe(true);
    }
  });

  test("may not be read by any other page, however similar its origin looks", async () => {
    for (const page of [STRANGER, ...ALIKE]) {
      const answer = await read(own, page);
      expectClosed(answer, page);
      expect(varies(answer), page).toBe(true);
    }
    expectClosed(await read(none, STRANGER), "no origins");
  });

  test("may be read by any page when the tenant allows *", async () => {
    for (const page of [STRANGER, "null"]) expect(allowed(await read(open, page))).toBe("*");
  });

  test("carries `Vary: Origin` even when the request has no Origin, for caches", async () => {
    for (const key of [own, none]) expect(varies(expectOk(await door.ask(READ, { key })))).toBe(true);
  });

  test("allows the page whether it is a miss, a hit, a read, a refusal or an error", async () => {
    const json = picture();
    const headers = { origin: APP };
    const ask = (target: string, sent = {}) => door.ask(target, { key: own, headers, ...sent });
    const answers = {
      miss: await door.paint(json, { key: own, headers }),
      "a hit of another page": await door.paint(json, { key: own, headers }),
      sound: await door.speak({ text: "cors", stream: true }, { key: own, headers }),
      "the origin's 422": await door.paint({ sampler_name: 5 }, { key: own, headers }),
      400: await door.paint({ width: 9_999 }, { key: own, headers }),
      404: await ask("/v1/results/none"),
      "404 of a path": await ask("/sdapi/v1/options"),
      405: await ask("/sdapi/v1/txt2img"),
      413: await door.paint({ prompt: "x".repeat(200_000) }, { key: own, headers }),
      fingerprint: await ask("/v1/fingerprint", { json: { service: "portrait", path: "txt2img", input: {} } }),
    };
    for (const [name, answer] of Object.entries(answers)) expect(allowed(answer), name).toBe(APP);
    const hit = await door.paint(json, { key: own, headers: { origin: LOCAL } });
    expect(hit.header("cache-status")).toContain("hit");
    expect(allowed(hit)).toBe(LOCAL);
    expectClosed(await door.paint(json, { key: own, headers: { origin: STRANGER } }), "a hit for a stranger");
  });

  test("exposes every header that a client needs", async () => {
    const headers = { origin: APP };
    const mine = { "x-request-id": "mine" };
    const miss = expectOk(await door.paint({}, { key: own, headers: { ...headers, ...mine } }));
    const always = ["x-request-id", "x-client-request-id", "ratelimit-policy", "server-timing", "cache-status"];
    expect(exposed(miss)).toEqual(expect.arrayContaining([...always, "link", "x-portico-card", "ratelimit"]));
    const [url = ""] = linksOf(miss);
    const part = await door.ask(new URL(url).pathname, { key: own, headers: { ...headers, range: "bytes=0-9" } });
    expect(part.status).toBe(206);
    expect(exposed(part)).toEqual(
      expect.arrayContaining(["etag", "content-range", "accept-ranges", "repr-digest", "last-modified"]),
    );
    const limited = await keyOf(door, [APP], { requests_per_minute: 1, burst: 1 });
    expectOk(await door.paint({}, { key: limited, headers }));
    const refused = await door.paint({}, { key: limited, headers });
    expect(refused.status).toBe(429);
    expect(exposed(refused)).toContain("retry-after");
  });

  test("never allows credentials", async () => {
    const { authenticated, open: anybodys, results } = await makeAnswers(door);
    for (const [name, answer] of Object.entries({ ...authenticated, ...anybodys, ...results })) {
      expect(answer.header("access-control-allow-credentials"), name).toBe(null);
    }
    for (const [name, answer] of Object.entries(authenticated)) {
      expect(allowed(answer), name).toBe(null);
      expect(varies(answer), name).toBe(true);
    }
    for (const key of [own, open]) expect((await read(key, APP)).header("access-control-allow-credentials")).toBe(null);
  });

  test("follows a change of the tenant's origins at once where the change was made", async () => {
    const tenant = await door.tenant();
    const key = await door.key({ tenant });
    expect(allowed(await read(key, APP))).toBe(null);
    await door.portico.admin("PATCH", `/tenants/${tenant}`, { origins: [APP] });
    expect(allowed(await read(key, APP))).toBe(APP);
    await door.portico.admin("PATCH", `/tenants/${tenant}`, { weight: 2 });
    expect(allowed(await read(key, APP))).toBe(APP);
    await door.portico.admin("PATCH", `/tenants/${tenant}`, { origins: [] });
    expect(allowed(await read(key, APP))).toBe(null);
  });
});

describe("an answer given before the tenant is known", () => {
  test("may be read by any page, so that a browser client learns what is wrong with its key", async () => {
    for (const key of [null, "nonsense", `${own}x`]) {
      const answer = await read(key, STRANGER);
      expect(answer.status).toBe(401);
      expect(allowed(answer)).toBe("*");
      expect(exposed(answer)).toContain("x-request-id");
    }
    expect(allowed(await door.ask("/nothing/here", { headers: { origin: STRANGER } }))).toBe("*");
  });

  test("may not be read on paths for operators and monitors, with any credential", async () => {
    const token = door.portico.adminToken;
    for (const target of CLOSED) {
      for (const key of [null, own, open, token]) {
        for (const method of ["GET", "POST", "OPTIONS"]) {
          expectClosed(await door.ask(target, { method, key, headers: { origin: APP } }), `${method} ${target}`);
        }
      }
      const answer = await preflight(door, target, "GET", { "access-control-request-headers": "authorization" });
      expectClosed(answer, `preflight ${target}`);
      expect(answer.status, target).toBeGreaterThanOrEqual(400);
    }
  });
});

test("CORS headers of an origin server do not reach the caller", async () => {
  origin.answering = (res) => {
    res.setHeader("access-control-allow-origin", STRANGER);
    res.setHeader("access-control-allow-credentials", "true");
    res.setHeader("access-control-expose-headers", "x-secret");
    res.setHeader("vary", "*");
    res.end("{}");
  };
  const answer = expectOk(await door.ask("/optional/thing", { key: none, headers: { origin: STRANGER } }));
  expectClosed(answer, "the origin's own");
  expect(answer.header("vary")).toBe("Origin");
});

async function made(): Promise<URL> {
  return new URL(linksOf(expectOk(await door.paint({}, { key: own })))[0] ?? "");
}

describe("a result", () => {
  test("may be read by any page that has the signed URL: whole, in part, unchanged or refused", async () => {
    const url = await made();
    const signed = (headers: Record<string, string>, method = "GET") =>
      door.ask(targetOf(url.href), { key: null, method, headers });
    const whole = expectOk(await signed({ origin: STRANGER }));
    expect(allowed(whole)).toBe("*");
    expect(exposed(whole)).toEqual(expect.arrayContaining(["etag", "repr-digest"]));
    const answers = [
      await signed({}),
      await signed({ origin: STRANGER, range: "bytes=0-9" }),
      await signed({ origin: STRANGER, range: "bytes=99999999-" }),
      await signed({ origin: STRANGER, "if-none-match": whole.header("etag") ?? "" }),
      await signed({ origin: STRANGER }, "HEAD"),
      await door.ask(`${targetOf(url.href)}x`, { key: null, headers: { origin: STRANGER } }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 206, 416, 304, 200, 403]);
    for (const answer of answers) expect(allowed(answer), String(answer.status)).toBe("*");
  });

  test("with a key may be read only by the tenant's pages, even if the URL is signed", async () => {
    const url = await made();
    for (const target of [url.pathname, targetOf(url.href)]) {
      for (const page of [APP, LOCAL]) {
        const answer = expectOk(await door.ask(target, { key: own, headers: { origin: page } }));
        expect(allowed(answer)).toBe(page);
        expect(varies(answer)).toBe(true);
      }
      expectClosed(await door.ask(target, { key: own, headers: { origin: STRANGER } }), target);
    }
  });

  test("keeps no CORS headers in its edge copy: each reader gets its own", async () => {
    const url = await made();
    const keyed = (page: string) => door.ask(url.pathname, { key: own, headers: { origin: page } });
    const signed = () => door.ask(targetOf(url.href), { key: null, headers: { origin: STRANGER } });
    const told = [await keyed(APP), await signed(), await keyed(LOCAL), await keyed(STRANGER), await signed()];
    expect(told.map(allowed)).toEqual([APP, "*", LOCAL, null, "*"]);
    expect(told.filter((answer) => answer.header("cache-status")?.includes("hit")).length).toBeGreaterThan(2);
  });
});
