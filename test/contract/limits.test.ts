/** What a tenant may: its rate to the token, limits in one service, and a month's cost. */
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
/** More than is kept in memory. */
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

/** A list header by its members' names. */
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

test("of sixty at once against a burst of ten just ten pass, and one more where the clock ticked", async () => {
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

test("a service's own rate takes the place of the tenant's there, and each route tells its own numbers", async () => {
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

test("limits of one service merge into what was set, and null takes them away", async () => {
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

test("slots and places in line are a service's own where it has such limits", async () => {
  const key = await door.key({ limits: { services: { gallery: { concurrent: 1, waiting: 0 } } } });
  const both = await Promise.all([paint("gallery", key), paint("gallery", key)]);
  const refused = both.filter(({ status }) => status !== 200);
  expect(refused.map(refusalOf)).toEqual(["429 rate_limited rate_limit_error concurrency"]);
  for (const answer of await Promise.all([door.paint({}, { key }), door.paint({}, { key })])) expectOk(answer);
});

test("where a slot was asked for, the slots that are left stand beside the requests", async () => {
  const key = await door.key({ limits: { concurrent: 4, burst: 50 } });
  const run = expectOk(await door.paint({}, { key }));
  expect(members(run, "ratelimit")).toMatchObject({ requests: { r: 49 }, slots: { r: 3 } });
  const read = expectOk(await door.ask(READ, { key }));
  expect(Object.keys(members(read, "ratelimit"))).toEqual(["requests"]);
});

test("a month's cost is by the price of the service, taken before the run, and nothing more runs beyond it", async () => {
  await door.portico.admin("PUT", "/services/gallery", { price: { product: ["width", "height"], per: 1_024 } });
  const key = await door.key({ limits: { cost_per_month: 6 } });
  // By the service's defaults 64 x 64: four units.
  expectOk(await door.ask("/gallery/sdapi/v1/txt2img", { key, json: { prompt: "a", seed: 1, width: 32 } }));
  const before = door.starts();
  const refused = await paint("gallery", key, { width: 64, height: 96 });
  expectUsedUp(refused);
  expect(errorOf(refused).message).toContain("6 cost units");
  expect(members(refused, "ratelimit")["requests"]).toMatchObject({ r: expect.any(Number) });
  expect(door.starts()).toBe(before);
  // Four that are left, for four images.
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

test("of a body too large to be kept the fields of the price are counted all the same", async () => {
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

test("what was refused, what the origin refused itself, and what ran for somebody else costs nothing", async () => {
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

test("a stored answer costs nothing, unless the service's hits have a price", async () => {
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

test("those who ask for the same at once are one run, for which one result and one cost are taken", async () => {
  const key = await door.key({ limits: { results_per_month: 1, cost_per_month: 1 } });
  const before = door.starts();
  const json = picture({ steps: 20 });
  const all = await Promise.all(Array.from({ length: 8 }, () => door.paint(json, { key })));
  for (const answer of all) expectOk(answer);
  expect(door.starts() - before).toBe(1);
  expectUsedUp(await door.paint({}, { key }));
});

test("who has to run by himself after all, and has no quota for it, is refused before a card begins", async () => {
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
  // Nothing but a 200 is kept, so that the others cannot have it.
  held[0]?.writeHead(201, { "content-type": "application/json" }).end("{}");
  const answers = await Promise.all(all);
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 429, 429]);
  for (const answer of answers.filter(({ status }) => status === 429)) expectUsedUp(answer);
  expect(origin.seen).toHaveLength(1);
});

test("when the run of the same fails for all, nothing is taken, and whoever runs it again pays for it", async () => {
  const key = await door.key({ limits: { results_per_month: 1 } });
  for (const { card } of door.park.cards) await door.park.setFault(card, { kind: "status", status: 500 });
  const json = picture();
  const failed = await Promise.all(Array.from({ length: 4 }, () => door.paint(json, { key })));
  for (const answer of failed) expect(answer.status).toBeGreaterThanOrEqual(500);
  await door.park.heal();
  expectOk(await door.paint(json, { key }));
  expectUsedUp(await door.paint({}, { key }));
});

test("an answer that somebody else's run brings has the price of a hit", async () => {
  const key = await door.key({ limits: { cost_per_month: 3 } });
  const json = picture({ steps: 20 });
  const all = await Promise.all(Array.from({ length: 3 }, () => door.ask("/charged/sdapi/v1/txt2img", { key, json })));
  for (const answer of all) expectOk(answer);
  expectUsedUp(await paint("charged", key));
});
