/** Cache directives of callers, the cost of a hit, sharing between tenants, and identical requests in flight. */
import { describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, expectOk, linksOf, picture, refusalOf, targetOf } from "./doorway.ts";

const door = doorway({
  services: {
    common: { kind: "image", route: "/common/sdapi/v1/", cache: { shared: true } },
    gallery: { kind: "image", route: "/gallery/sdapi/v1/", cache: { shared: true } },
  },
});
const TWENTY = 20;

const isHit = (answer: Answer) => /^portico; hit; ttl=\d+$/.test(expectOk(answer).header("cache-status") ?? "");
const common = (json: object, key: string, headers = {}) =>
  door.ask("/common/sdapi/v1/txt2img", { json, key, headers });
const withDirective = (directive: string) => ({ headers: { "cache-control": directive } });

describe("Cache-Control: no-store", () => {
  test("is not served from the cache", async () => {
    const json = picture();
    await door.paint(json);
    const before = door.starts();
    const answer = expectOk(await door.paint(json, withDirective("no-store")));
    expect(answer.header("cache-status")).toBe("portico; fwd=bypass");
    expect(door.starts()).toBe(before + 1);
  });

  test("stores nothing and sends no Link", async () => {
    const json = picture();
    const answer = expectOk(await door.paint(json, withDirective("no-store")));
    expect(answer.header("link")).toBe(null);
    expect(isHit(await door.paint(json))).toBe(false);
    const sound = { text: `no-store ${Date.now()}` };
    expect(expectOk(await door.speak(sound, withDirective("no-store"))).header("link")).toBe(null);
    expect(isHit(await door.speak(sound))).toBe(false);
  });

  test("leaves a stored answer in place", async () => {
    const json = picture();
    await door.paint(json);
    await door.paint(json, withDirective("no-store"));
    expect(isHit(await door.paint(json))).toBe(true);
  });

  test("makes no result, as the request record shows", async () => {
    const answer = expectOk(await door.paint(picture(), withDirective("no-store")));
    const { text } = expectOk(await door.ask(`/v1/requests/${answer.header("x-request-id")}`));
    expect(JSON.parse(text)).toMatchObject({ state: "succeeded", results: [] });
  });
});

describe("Cache-Control: no-cache", () => {
  test("runs again and replaces the stored answer", async () => {
    const json = picture();
    const [old = ""] = linksOf(expectOk(await door.paint(json)));
    const before = door.starts();
    const again = expectOk(await door.paint(json, withDirective("no-cache")));
    expect(isHit(again)).toBe(false);
    expect(door.starts()).toBe(before + 1);
    const after = await door.paint(json);
    expect(isHit(after)).toBe(true);
    expect(linksOf(after).map((url) => new URL(url).pathname)).toEqual(
      linksOf(again).map((url) => new URL(url).pathname),
    );
    expect(linksOf(after).map((url) => new URL(url).pathname)).not.toEqual([new URL(old).pathname]);
  });

  test("also replaces the copy at this edge location", async () => {
    const json = picture();
    await door.paint(json);
    expect(isHit(await door.paint(json))).toBe(true);
    const again = expectOk(await door.paint(json, withDirective("no-cache")));
    const after = await door.paint(json);
    expect(isHit(after)).toBe(true);
    expect(linksOf(after).map((url) => new URL(url).pathname)).toEqual(
      linksOf(again).map((url) => new URL(url).pathname),
    );
  });
});

describe("Cache-Control: only-if-cached", () => {
  test("gets 504 not_cached and runs nothing when nothing is stored", async () => {
    const before = door.starts();
    const answer = await door.paint({}, withDirective("only-if-cached"));
    expect(refusalOf(answer)).toMatch(/^504 gateway_timeout \w+ not_cached$/);
    expect(door.starts()).toBe(before);
  });

  test("gets the hit when there is one", async () => {
    const json = picture();
    await door.paint(json);
    expect(isHit(await door.paint(json, withDirective("only-if-cached")))).toBe(true);
  });

  test("gets 504 for requests that are never cached", async () => {
    expect((await door.paint({ seed: -1 }, withDirective("only-if-cached"))).status).toBe(504);
    expect((await door.paint({ seed: 1 }, withDirective("only-if-cached, no-store"))).status).toBe(504);
  });
});

test("directives are case-insensitive and can be combined", async () => {
  const json = picture();
  await door.paint(json);
  expect(isHit(await door.paint(json, withDirective("max-age=0, No-Cache")))).toBe(false);
  expect(expectOk(await door.paint(json, withDirective("NO-STORE"))).header("link")).toBe(null);
});

describe("a hit", () => {
  test("takes no rate token", async () => {
    const key = await door.key({ limits: { requests_per_minute: 1, burst: 1 } });
    const json = picture();
    expectOk(await door.paint(json, { key }));
    for (let i = 0; i < 5; i++) expect(isHit(await door.paint(json, { key }))).toBe(true);
  });

  test("takes no slot: it is served while every card refuses connections", async () => {
    const json = picture();
    await door.paint(json);
    await Promise.all(door.park.cards.map(({ card }) => door.park.setFault(card, { kind: "refuse" })));
    try {
      expect(isHit(await door.paint(json))).toBe(true);
    } finally {
      await door.park.heal();
    }
  });

  test("carries its own links to the same results", async () => {
    const json = picture();
    const [first = ""] = linksOf(expectOk(await door.paint(json)));
    const hit = await door.paint(json);
    expect(isHit(hit)).toBe(true);
    const [second = ""] = linksOf(hit);
    expect(new URL(second).pathname).toBe(new URL(first).pathname);
    expectOk(await door.ask(targetOf(second), { key: null }));
  });
});

describe("Link", () => {
  test("lists every image in order as an absolute signed URL with rel=enclosure", async () => {
    const answer = expectOk(await door.paint({ batch_size: 3 }));
    const { images }: { images: string[] } = JSON.parse(answer.text);
    expect(images).toHaveLength(3);
    const links = linksOf(answer);
    expect(links).toHaveLength(3);
    for (const [i, url] of links.entries()) {
      expect(url.startsWith(`${door.portico.url}/v1/results/`)).toBe(true);
      const result = expectOk(await door.ask(targetOf(url), { key: null }));
      expect(result.body.equals(Buffer.from(images[i] ?? "", "base64"))).toBe(true);
      expect(result.header("content-type")).toBe("image/png");
    }
  });
});

describe("tenants never share hits", () => {
  test("for the same request", async () => {
    const json = picture();
    const [a, b] = [await door.key(), await door.key()];
    const [link = ""] = linksOf(expectOk(await door.paint(json, { key: a })));
    const other = expectOk(await door.paint(json, { key: b }));
    expect(isHit(other)).toBe(false);
    expect(linksOf(other).map((url) => new URL(url).pathname)).not.toContain(new URL(link).pathname);
    const onlyCached = await door.paint(json, { key: await door.key(), ...withDirective("only-if-cached") });
    expect(onlyCached.status).toBe(504);
  });

  test("but keys of one tenant share them", async () => {
    const tenant = await door.tenant();
    const [a, b] = [await door.key({ tenant }), await door.key({ tenant })];
    const json = picture();
    await door.paint(json, { key: a });
    expect(isHit(await door.paint(json, { key: b }))).toBe(true);
  });

  test("unless the service's cache is shared", async () => {
    const [a, b] = [await door.key(), await door.key()];
    const json = picture();
    const first = expectOk(await common(json, a));
    const second = await common(json, b);
    expect(isHit(second)).toBe(true);
    expect(second.body.equals(first.body)).toBe(true);
    expect(linksOf(second)).toHaveLength(1);
    for (const url of linksOf(second)) expectOk(await door.ask(targetOf(url), { key: null }));
  });

  test("two services with shared caches do not share hits with each other", async () => {
    const key = await door.key();
    const json = picture();
    await common(json, key);
    expect(isHit(await door.ask("/gallery/sdapi/v1/txt2img", { json, key }))).toBe(false);
  });
});

describe("identical cacheable requests in flight run once:", () => {
  test("20 requests make 1 start at the origin and get 20 equal bodies", async () => {
    const key = await door.key({ limits: { concurrent: 2, waiting: 100 } });
    const json = picture({ width: 256, height: 256, steps: 40 });
    const before = door.starts();
    const answers = await Promise.all(Array.from({ length: TWENTY }, () => door.paint(json, { key })));
    expect(door.starts()).toBe(before + 1);
    const [first] = answers;
    for (const answer of answers) expect(expectOk(answer).body.equals(first?.body ?? Buffer.alloc(0))).toBe(true);
    const how = answers.map((answer) => answer.header("cache-status"));
    expect(how.filter((status) => status === "portico; fwd=miss; stored")).toHaveLength(1);
    expect(how.filter((status) => status === "portico; fwd=miss; collapsed").length).toBeGreaterThan(0);
    expect(new Set(answers.map((answer) => answer.header("x-request-id"))).size).toBe(TWENTY);
  });

  test("streamed sounds too", async () => {
    const json = { text: `together ${Date.now()}`, stream: true };
    const before = door.starts();
    const answers = await Promise.all(Array.from({ length: 10 }, () => door.speak(json)));
    expect(door.starts()).toBe(before + 1);
    for (const answer of answers) expect(expectOk(answer).body.equals(answers[0]?.body ?? Buffer.alloc(0))).toBe(true);
  });

  test("but not requests of two tenants, nor requests that are not cacheable", async () => {
    const json = picture({ width: 256, height: 256, steps: 20 });
    const [a, b] = [await door.key(), await door.key()];
    let before = door.starts();
    await Promise.all([door.paint(json, { key: a }), door.paint(json, { key: b })]);
    expect(door.starts()).toBe(before + 2);
    before = door.starts();
    await Promise.all([door.paint({ ...json, seed: -1 }), door.paint({ ...json, seed: -1 })]);
    expect(door.starts()).toBe(before + 2);
    before = door.starts();
    await Promise.all([1, 2].map(() => door.paint({ ...json, seed: 8 }, withDirective("no-store"))));
    expect(door.starts()).toBe(before + 2);
  });

  test("each takes a rate token", async () => {
    const key = await door.key({ limits: { requests_per_minute: 1, burst: 5 } });
    const json = picture({ width: 256, height: 256, steps: 20 });
    const answers = await Promise.all(Array.from({ length: 10 }, () => door.paint(json, { key })));
    const refused = answers.filter((answer) => answer.status === 429);
    expect(refused.length).toBeGreaterThanOrEqual(3);
    for (const answer of refused) expect(refusalOf(answer)).toBe("429 rate_limited rate_limit_error requests");
  });

  test("each takes one of the tenant's `waiting` places", async () => {
    const key = await door.key({ limits: { concurrent: 1, waiting: 2 } });
    const json = picture({ width: 512, height: 512, steps: 60 });
    const answers = await Promise.all(Array.from({ length: 10 }, () => door.paint(json, { key })));
    const refused = answers.filter((answer) => answer.status === 429);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) expect(refusalOf(answer)).toBe("429 rate_limited rate_limit_error concurrency");
  });
});
