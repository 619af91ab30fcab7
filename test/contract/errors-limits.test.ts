/** 429 for the tenant's policy, and 503 for our capacity. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Answer } from "../support/raw.ts";
import { doorway, errorOf, expectOk, picture, refusalOf } from "./doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "./origin.ts";

const door = doorway();
let origin: Origin;
const POLL_MS = 10;
const WAIT_MS_MAX = 5_000;
const RETRY_503_S_MAX = 30;

beforeAll(async () => {
  origin = await Origin.open();
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Creates a service whose one card has one slot, and returns a call to it. */
async function narrow(id: string, service: object = {}): Promise<(sent?: object) => Promise<Answer>> {
  const made = { kind: "image", route: `/${id}/sdapi/v1/`, drain: { max_s: 1 }, ...service };
  await listOrigin(door, origin, id, made, { slots: 1 });
  return (sent = {}) => door.ask(`/${id}/sdapi/v1/txt2img`, { json: picture(), ...sent });
}

/** Holds every request at the origin until the returned function is called. */
function hold(): () => void {
  const held: Parameters<Answering>[] = [];
  origin.answering = (...answer) => held.push(answer);
  return () => {
    origin.answering = answerImage;
    for (const answer of held) answerImage(...answer);
  };
}

async function untilSeen(count: number): Promise<void> {
  for (let ms = 0; origin.seen.length < count; ms += POLL_MS) {
    expect(ms, `${count} requests at the origin`).toBeLessThan(WAIT_MS_MAX);
    await sleep(POLL_MS);
  }
}

async function untilQueued(service: string, count: number): Promise<void> {
  for (let ms = 0; ; ms += 1_000) {
    const { text } = await door.ask("/cluster/status", { key: null });
    const status: { services: { id: string; queued: number }[] } = JSON.parse(text);
    if (status.services.find(({ id }) => id === service)?.queued === count) return;
    expect(ms, `${count} in line`).toBeLessThan(WAIT_MS_MAX);
    // The status may be a second old.
    await sleep(200);
  }
}

function retryAfter(answer: Answer): number {
  const seconds = answer.header("retry-after") ?? "";
  expect(seconds).toMatch(/^\d+$/);
  return Number(seconds);
}

function expect503(answer: Answer, reason: string): void {
  expect(refusalOf(answer)).toBe(`503 service_unavailable cluster_overload ${reason}`);
  expect(errorOf(answer)).toMatchObject({ started: "no", retryable: true });
  expect(retryAfter(answer)).toBeLessThanOrEqual(RETRY_503_S_MAX);
}

describe("429 comes from the tenant's policy:", () => {
  test("requests: a retry after Retry-After succeeds", async () => {
    const key = await door.key({ limits: { requests_per_minute: 30, burst: 1 } });
    const read = () => door.ask("/sdapi/v1/sd-models", { key });
    let answer = await read();
    expectOk(answer);
    for (let i = 0; answer.status === 200 && i < 3; i++) answer = await read();
    expect(refusalOf(answer)).toBe("429 rate_limited rate_limit_error requests");
    expect(errorOf(answer)).toMatchObject({ started: "no", retryable: true });
    const seconds = retryAfter(answer);
    expect(seconds).toBeGreaterThanOrEqual(1);
    await sleep(seconds * 1_000);
    expectOk(await read());
  });

  test("requests: one tenant's limit does not affect another", async () => {
    const key = await door.key({ limits: { requests_per_minute: 1, burst: 1 } });
    for (let i = 0; i < 4; i++) await door.ask("/sdapi/v1/sd-models", { key });
    expect((await door.ask("/sdapi/v1/sd-models", { key })).status).toBe(429);
    expectOk(await door.ask("/sdapi/v1/sd-models"));
  });

  test("concurrency, for a tenant with more than `waiting` requests in line, and for no other", async () => {
    const ask = await narrow("crowd");
    const key = await door.key({ limits: { concurrent: 1, waiting: 1 } });
    const release = hold();
    const running = ask({ key });
    await untilSeen(1);
    const waiting = ask({ key });
    await untilQueued("crowd", 1);
    const refused = await ask({ key });
    expect(refusalOf(refused)).toBe("429 rate_limited rate_limit_error concurrency");
    expect(retryAfter(refused)).toBeGreaterThanOrEqual(1);
    const other = ask();
    await untilQueued("crowd", 2);
    release();
    for (const answer of await Promise.all([running, waiting, other])) expectOk(answer);
    expect(origin.seen).toHaveLength(3);
  });

  test("quota, marked as not retryable; a stored answer takes none", async () => {
    const key = await door.key({ limits: { results_per_month: 1 } });
    const json = picture();
    expectOk(await door.paint(json, { key }));
    const before = door.starts();
    const refused = await door.paint({}, { key });
    expect(refusalOf(refused)).toBe("429 rate_limited rate_limit_error quota");
    expect(refused.header("x-should-retry")).toBe("false");
    expect(errorOf(refused).retryable).toBe(false);
    expect(retryAfter(refused)).toBeGreaterThanOrEqual(1);
    expect(door.starts()).toBe(before);
    expect(expectOk(await door.paint(json, { key })).header("cache-status")).toContain("portico; hit");
  });
});

describe("503 comes from our capacity:", () => {
  test("queue_full, at once", async () => {
    const ask = await narrow("full", { queue: { max: 1 } });
    const release = hold();
    const running = ask();
    await untilSeen(1);
    const waiting = ask();
    await untilQueued("full", 1);
    const start = performance.now();
    expect503(await ask(), "queue_full");
    expect(performance.now() - start).toBeLessThan(1_000);
    release();
    for (const answer of await Promise.all([running, waiting])) expectOk(answer);
  });

  test("queue_timeout, when no slot becomes free within the service's timeout", async () => {
    const ask = await narrow("slow", { queue: { timeout_s: 1 } });
    const release = hold();
    const running = ask();
    await untilSeen(1);
    const start = performance.now();
    expect503(await ask(), "queue_timeout");
    expect(performance.now() - start).toBeGreaterThan(900);
    expect(performance.now() - start).toBeLessThan(3_000);
    release();
    expectOk(await running);
    expect(origin.seen).toHaveLength(1);
  });

  test("queue_timeout, when the caller's deadline passes in line; without an estimate it is admitted", async () => {
    const ask = await narrow("deadline");
    const release = hold();
    const running = ask();
    await untilSeen(1);
    const start = performance.now();
    expect503(await ask({ headers: { "x-timeout-s": "1" } }), "queue_timeout");
    expect(performance.now() - start).toBeGreaterThan(900);
    release();
    expectOk(await running);
  });

  test("deadline_unmeetable, at once, if the estimate exceeds the caller's deadline", { timeout: 30_000 }, async () => {
    const ask = await narrow("doomed");
    origin.answering = (res, seen) => void setTimeout(() => answerImage(res, seen), 2_000);
    for (let i = 0; i < 3; i++) expectOk(await ask());
    const start = performance.now();
    expect503(await ask({ headers: { "x-timeout-s": "1" } }), "deadline_unmeetable");
    expect(performance.now() - start).toBeLessThan(1_000);
    expect(origin.seen).toHaveLength(3);
  });

  test("no_healthy_card, at once, when no card is listed", async () => {
    await door.portico.admin("PUT", "/services/bare", { kind: "http", route: "/bare/" });
    const start = performance.now();
    expect503(await door.ask("/bare/x", { json: {} }), "no_healthy_card");
    expect(performance.now() - start).toBeLessThan(1_000);
  });

  test("paused, at once, until the service is resumed", async () => {
    const ask = await narrow("stopped");
    expectOk(await ask());
    await door.portico.admin("POST", "/services/stopped/pause");
    const start = performance.now();
    expect503(await ask(), "paused");
    expect(performance.now() - start).toBeLessThan(1_000);
    await door.portico.admin("POST", "/services/stopped/resume");
    expectOk(await ask());
  });
});

test("an X-Timeout-S that is not 1 to 3600 is 400 invalid_field", async () => {
  for (const value of ["0", "3601", "-1", "soon", "1e9", "NaN", ""]) {
    const answer = await door.paint({}, { headers: { "x-timeout-s": value } });
    expect(refusalOf(answer), value).toBe("400 invalid_request invalid_request_error invalid_field");
    expect(errorOf(answer).param?.toLowerCase()).toBe("x-timeout-s");
  }
});
