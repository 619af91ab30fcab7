/** A tenant's limits: an exact rate, limits per service, and cost per month. */
import type { ServerResponse } from "node:http";
import { parseList } from "structured-headers";
import { expect, onTestFinished, test, vi } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";
import { listOrigin, Origin } from "./origin.ts";

const READ = "/sdapi/v1/sd-models";
const TOO_MANY = "429 rate_limited rate_limit_error requests";
const USED_UP = "429 rate_limited rate_limit_error quota";
const DAY_S = 86_400;
const WAIT = { timeout: 5_000, interval: 50 };
/** Larger than a body that is buffered. */
const LARGE_BYTES = 9 * 1024 * 1024;

const door = doorway({
  services: {
    portrait: { breaker: { max_fails: 1_000 } },
    gallery: { kind: "image", route: "/gallery/sdapi/v1/", defaults: { width: 64, height: 64, steps: 1 } },
    charged: { kind: "image", route: "/charged/sdapi/v1/", price: { flat: 1, hits: true } },
    speech: {
      kind: "tts",
      route: "/speech/AIVoice/TTS/CosyVoice2/",
      price: { characters: ["text"], per: 10 },
    },
    bare: { kind: "http", route: "/bare/", paths: [{ method: "POST", path: "*", as: "run" }] },
  },
});

const paint = (service: string, key: string, json: object = {}) =>
  door.ask(`/${service}/sdapi/v1/txt2img`, { key, json: picture(json) });

/** Parses a list header into its members by name. */
function members(answer: Answer, name: string): Record<string, Record<string, unknown>> {
  const list = parseList(answer.header(name) ?? "");
  return Object.fromEntries(list.map(([item, parameters]) => [item, Object.fromEntries(parameters)]));
}

const slots = (q: number) => ({ q, qu: "concurrent-requests" });

function expectUsedUp(answer: Answer): void {
  expect(refusalOf(answer)).toBe(USED_UP);
  expect(answer.header("x-should-retry")).toBe("false");
  expect(errorOf(answer)).toMatchObject({ started: "no", retryable: false });
  const now = new Date();
  const untilNextMonthS = (Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1) - now.getTime()) / 1_000;
  expect(Number(answer.header("retry-after"))).toBeGreaterThanOrEqual(Math.floor(untilNextMonthS) - 1);
  expect(Number(answer.header("retry-after"))).toBeLessThanOrEqual(31 * DAY_S * 1.2 + 1);
}

test("of 60 simultaneous requests against a burst of 10, 10 pass, plus one per elapsed second", async () => {
  const key = await door.key({ limits: { requests_per_minute: 60, burst: 10 } });
  const from = Date.now();
  const answers = await Promise.all(Array.from({ length: 60 }, () => door.ask(READ, { key })));
  const ticks = Math.floor((Date.now() - from) / 1_000);
  const passed = answers.filter(({ status }) => status === 200).length;
  expect(passed).toBeGreaterThanOrEqual(10);
  expect(passed).toBeLessThanOrEqual(10 + ticks);
  for (const answer of answers.filter(({ status }) => status !== 200)) {
    expect(refusalOf(answer)).toBe(TOO_MANY);
    expect(members(answer, "ratelimit")["requests"]).toMatchObject({ r: 0 });
    const { t } = members(answer, "ratelimit")["requests"] ?? {};
    expect(Number(answer.header("retry-after"))).toBeGreaterThanOrEqual(Number(t));
  }
});

test("a service's own rate replaces the tenant's there, and each route reports its own numbers", async () => {
  const services = { gallery: { requests_per_minute: 1, burst: 2, concurrent: 3 } };
  const key = await door.key({ limits: { requests_per_minute: 30, burst: 20, concurrent: 5, services } });
  const read = (route: string) => door.ask(`${route}sdapi/v1/sd-models`, { key });
  const own = [await read("/gallery/"), await read("/gallery/"), await read("/gallery/")];
  expect(own.map(({ status }) => status)).toEqual([200, 200, 429]);
  const others = expectOk(await read("/"));
  expect(members(others, "ratelimit")["requests"]?.["r"]).toBe(19);
  const policies = [own[0], own[2], others].map((answer) => answer && members(answer, "ratelimit-policy"));
  expect(policies).toEqual([
    { requests: { q: 2, w: 60 }, slots: slots(3) },
    { requests: { q: 2, w: 60 }, slots: slots(3) },
    { requests: { q: 30, w: 60 }, slots: slots(5) },
  ]);
  const bad = await door.ask("/gallery/sdapi/v1/txt2img", { key, json: picture({ width: 9_999 }) });
  expect(members(bad, "ratelimit-policy")["slots"]).toEqual(slots(3));
});

test("limits per service are merged into the existing ones, and null removes them", async () => {
  const id = await door.tenant({ services: { gallery: { waiting: 0, concurrent: 1 } } });
  const patch = async (services: object) => {
    const { limits } = await door.portico.admin<{ limits: { services: object } }>("PATCH", `/tenants/${id}`, {
      limits: { services },
    });
    return limits.services;
  };
  expect(await patch({ gallery: { burst: 3 }, portrait: { burst: 4 } })).toEqual({
    gallery: { waiting: 0, concurrent: 1, burst: 3 },
    portrait: { burst: 4 },
  });
  expect(await patch({ gallery: null })).toEqual({ portrait: { burst: 4 } });
});

test("a service with its own limits has its own slots and places in line", async () => {
  const key = await door.key({ limits: { services: { gallery: { concurrent: 1, waiting: 0 } } } });
  const both = await Promise.all([paint("gallery", key), paint("gallery", key)]);
  const refused = both.filter(({ status }) => status !== 200);
  expect(refused.map(refusalOf)).toEqual(["429 rate_limited rate_limit_error concurrency"]);
  for (const answer of await Promise.all([door.paint({}, { key }), door.paint({}, { key })])) expectOk(answer);
});

test("RateLimit reports the remaining slots only on requests that take one", async () => {
  const key = await door.key({ limits: { concurrent: 4, burst: 50 } });
  const run = expectOk(await door.paint({}, { key }));
  expect(members(run, "ratelimit")).toMatchObject({ requests: { r: 49 }, slots: { r: 3 } });
  const read = expectOk(await door.ask(READ, { key }));
  expect(Object.keys(members(read, "ratelimit"))).toEqual(["requests"]);
});

test("the monthly cost follows the service's price, is taken before the run, and stops runs beyond it", async () => {
  await door.portico.admin("PUT", "/services/gallery", { price: { product: ["width", "height"], per: 1_024 } });
  const key = await door.key({ limits: { cost_per_month: 6 } });
  // 32 x 64, the default height: two units.
  expectOk(await door.ask("/gallery/sdapi/v1/txt2img", { key, json: { prompt: "a", seed: 1, width: 32 } }));
  const before = door.starts();
  const refused = await paint("gallery", key, { width: 64, height: 96 });
  expectUsedUp(refused);
  expect(errorOf(refused).message).toContain("6 cost units");
  expect(members(refused, "ratelimit")["requests"]).toMatchObject({ r: expect.any(Number) });
  expect(door.starts()).toBe(before);
  // The four units that are left, for four images of 32 x 32.
  expectOk(await paint("gallery", key, { batch_size: 4 }));
  expectUsedUp(await paint("gallery", key));
});

test("a text's characters are counted where they are the price", async () => {
  const key = await door.key({ limits: { cost_per_month: 2.5 } });
  const speak = (text: string) => door.ask("/speech/AIVoice/TTS/CosyVoice2/audio-generate", { key, json: { text } });
  expectOk(await speak("two units, 20 chars."));
  expectUsedUp(await speak("123456"));
  expectOk(await speak("12345"));
});

test("the price fields of a body too large to buffer are counted too", async () => {
  const sound = (text: string) => {
    const boundary = "b0undary";
    const part = (head: string, value: string) =>
      `--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n${value}\r\n`;
    const file = part('name="prompt_wav"; filename="a.wav"', "x".repeat(LARGE_BYTES));
    return door.ask("/speech/AIVoice/TTS/CosyVoice2/inference_zero_shot", {
      key: poor,
      body: `${file}${part('name="text"', text)}--${boundary}--\r\n`,
      headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
    });
  };
  const poor = await door.key({ limits: { cost_per_month: 1 } });
  expectUsedUp(await sound("eleven char"));
  expect((await sound("ten chars.")).status).not.toBe(429);
  await door.portico.admin("PUT", "/services/gallery", { price: { product: ["steps"], per: 1 } });
  const image = "A".repeat(LARGE_BYTES);
  const repaint = (steps: number, key: string) =>
    door.ask("/gallery/sdapi/v1/img2img", { key, json: { ...picture({ steps }), init_images: [image] } });
  const other = await door.key({ limits: { cost_per_month: 4 } });
  expectUsedUp(await repaint(5, other));
  expect((await repaint(4, other)).status).not.toBe(429);
});

test("a refused request, an error of the origin and a shared run cost nothing", async () => {
  const key = await door.key({ limits: { cost_per_month: 1 } });
  await door.portico.admin("POST", "/services/bare/pause");
  expect(refusalOf(await door.ask("/bare/x", { key, json: {} }))).toContain("paused");
  await door.portico.admin("POST", "/services/bare/resume");
  expect((await door.ask("/bare/nothing", { key, json: {} })).status).toBe(404);
  const json = picture();
  const other = await door.key({ limits: { cost_per_month: 3 } });
  const same = await Promise.all(Array.from({ length: 3 }, () => door.paint(json, { key: other })));
  for (const answer of same) expectOk(answer);
  expectOk(await door.paint({ batch_size: 2 }, { key: other }));
  expectUsedUp(await door.paint({}, { key: other }));
  expectOk(await door.paint({}, { key }));
  expectUsedUp(await door.paint({}, { key }));
});

test("a stored answer costs nothing, unless the service charges for hits", async () => {
  const key = await door.key({ limits: { cost_per_month: 2 } });
  const json = picture();
  const ask = () => door.ask("/charged/sdapi/v1/txt2img", { key, json });
  expectOk(await ask());
  const hit = expectOk(await ask());
  expect(hit.header("cache-status")).toContain("portico; hit");
  expectUsedUp(await ask());
  const found = await door.ask(`/v1/requests/${hit.header("x-request-id")}`, { key });
  expect(JSON.parse(expectOk(found).text)).toMatchObject({ state: "succeeded", status: 200, results: [{}] });
  await door.portico.admin("PUT", "/services/charged", { price: { flat: 1 } });
  expectOk(await ask());
  await door.portico.admin("PUT", "/services/charged", { price: { flat: 1, hits: true } });
});

test("identical simultaneous requests share one run, which takes one result and one cost", async () => {
  const key = await door.key({ limits: { results_per_month: 1, cost_per_month: 1 } });
  const before = door.starts();
  const json = picture({ steps: 20 });
  const all = await Promise.all(Array.from({ length: 8 }, () => door.paint(json, { key })));
  for (const answer of all) expectOk(answer);
  expect(door.starts() - before).toBe(1);
  expectUsedUp(await door.paint({}, { key }));
});

test("a follower that has to run after all and has no quota is refused before its run starts", async () => {
  const origin = await Origin.open();
  onTestFinished(() => origin.close());
  await listOrigin(door, origin, "odd", { kind: "http", route: "/odd/", cache: { enabled: true } });
  const held: ServerResponse[] = [];
  origin.answering = (res) => void held.push(res);
  const key = await door.key({ limits: { cost_per_month: 1 } });
  const all = [1, 2, 3].map(() => door.ask("/odd/run", { key, json: { a: 1 } }));
  await vi.waitFor(async () => {
    const { live } = await door.portico.admin<{ live: { queued: number } }>("GET", "/services/odd");
    expect([held.length, live.queued]).toEqual([1, 2]);
  }, WAIT);
  // Only a 200 is kept, so the followers cannot share this answer.
  held[0]?.writeHead(201, { "content-type": "application/json" }).end("{}");
  const answers = await Promise.all(all);
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 429, 429]);
  for (const answer of answers.filter(({ status }) => status === 429)) expectUsedUp(answer);
  expect(origin.seen).toHaveLength(1);
});

test("a shared run that fails takes no quota, and the next run does", async () => {
  const key = await door.key({ limits: { results_per_month: 1 } });
  for (const { card } of door.park.cards) await door.park.setFault(card, { kind: "status", status: 500 });
  const json = picture();
  const failed = await Promise.all(Array.from({ length: 4 }, () => door.paint(json, { key })));
  for (const answer of failed) expect(answer.status).toBeGreaterThanOrEqual(500);
  await door.park.heal();
  expectOk(await door.paint(json, { key }));
  expectUsedUp(await door.paint({}, { key }));
});

test("a follower's answer costs as much as a hit", async () => {
  const key = await door.key({ limits: { cost_per_month: 3 } });
  const json = picture({ steps: 20 });
  const all = await Promise.all(Array.from({ length: 3 }, () => door.ask("/charged/sdapi/v1/txt2img", { key, json })));
  for (const answer of all) expectOk(answer);
  expectUsedUp(await paint("charged", key));
});
