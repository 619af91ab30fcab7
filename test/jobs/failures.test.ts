/** Jobs whose cards fail: only failures that a retry may cure are retried. */
import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { doorway, expectOk } from "../contract/doorway.ts";
import { answerImage, Origin } from "../contract/origin.ts";
import { type JobShown, over, show, submitted } from "./shown.ts";

const SLOW_MS_MAX = 200_000;
const door = doorway({ cards: [] });
const origins: Origin[] = [];
let sick = (_card: number, _call: number): number | null => null;
const OWN = { type: "application/json", body: '{"detail":"as the origin has it"}' };
let own = OWN;
const calls: { card: number; at: number }[] = [];

beforeAll(async () => {
  const service = {
    kind: "image",
    route: "/sick/sdapi/v1/",
    retry: { tries: 1 },
    breaker: { max_fails: 1_000 },
    drain: { max_s: 1 },
  };
  await door.portico.admin("PUT", "/services/sick", service);
  for (let card = 0; card < 4; card++) {
    const origin = await Origin.open();
    origin.answering = (res, seen) => {
      calls.push({ card, at: Date.now() });
      const status = sick(card, calls.length);
      if (status === null) return answerImage(res, seen);
      const retryAfter = status === 429 ? { "retry-after": "60" } : {};
      res.writeHead(status, { "content-type": own.type, ...retryAfter }).end(own.body);
    };
    origins.push(origin);
    await door.portico.admin("PUT", `/services/sick/cards/sick-${card}`, { origin: origin.url });
  }
});
afterAll(() => {
  for (const origin of origins) origin.close();
});

const job = { service: "sick", input: { prompt: "x" } };
const tries = (shown: JobShown) => (shown as JobShown & { tries: { card: string | null }[] }).tries;

async function paused(id: string, key: string): Promise<JobShown & { retry_at: string }> {
  for (;;) {
    const shown = (await show(door, id, "", key)) as JobShown & { retry_at: string | null };
    if (shown.retry_at !== null) return { ...shown, retry_at: shown.retry_at };
    expect(shown.finished_at).toBeNull();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("an error that a retry cannot cure fails the job at once with the origin's message", async () => {
  calls.length = 0;
  sick = () => 422;
  const failed = await over(door, await submitted(door, job));
  const error = { message: "as the origin has it", retryable: false, request_id: failed.id };
  expect(failed).toMatchObject({ status: "failed", attempts: 1, error });
  // The error does not depend on who reads it or when.
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect((await show(door, failed.id)).error).toEqual(failed.error);
  expect(calls).toHaveLength(1);
});

test("the job's message is the origin's message, in every format", async () => {
  sick = () => 400;
  try {
    for (const [type, body, message] of [
      ["application/json", '{"error":{"message":"nested","type":"x"}}', "nested"],
      ["text/plain", "plain words", "plain words"],
      ["text/plain", "x".repeat(5_000), "x".repeat(1_000)],
      ["text/html", "<html>no</html>", "The GPU server answered with status 400."],
    ] as const) {
      own = { type, body };
      const { error } = await over(door, await submitted(door, job));
      expect(error).toMatchObject({ message, retryable: false });
    }
  } finally {
    own = OWN;
  }
});

test("a job waits out an origin's rate limit, and a 501 is not retried", async () => {
  for (const [status, least] of [
    [429, 60],
    [408, 10],
    [425, 10],
  ] as const) {
    calls.length = 0;
    sick = () => status;
    const id = await submitted(door, job);
    const { retry_at: retryAt, tries: tried } = await paused(id, door.ownKey);
    expect(tried[0]?.error).toMatchObject({ reason: "origin_status", retryable: true });
    const pauseS = (Date.parse(retryAt) - (calls[0]?.at ?? 0)) / 1000;
    expect(pauseS).toBeGreaterThan(least - 0.5);
    expect(pauseS).toBeLessThan(least * 1.5 + 3);
    expectOk(await door.ask(`/v1/jobs/${id}/cancel`, { method: "POST" }));
  }
  calls.length = 0;
  sick = () => 501;
  const failed = await over(door, await submitted(door, job));
  expect(failed).toMatchObject({ attempts: 1, error: { reason: "origin_status", retryable: false } });
  expect(calls).toHaveLength(1);
});

test("a job whose card failed waits in line again, and shows each card with its error", async () => {
  await door.portico.admin("PUT", "/services/two", { kind: "image", route: "/two/sdapi/v1/" });
  const [first, second] = [await Origin.open(), await Origin.open()];
  const called = new Promise<ServerResponse>((resolve) => {
    first.answering = resolve;
  });
  second.answering = answerImage;
  try {
    await door.portico.admin("PUT", "/services/two/cards/two-a", { origin: first.url });
    const id = await submitted(door, { service: "two", input: { prompt: "x" } });
    const response = await called;
    await vi.waitFor(async () => expect((await show(door, id)).status).toBe("running"));
    // The card gets no more offers, and there is no other card.
    await door.portico.admin("PATCH", "/cards/two-a", { state: "draining" });
    response.writeHead(500).end();
    await vi.waitFor(async () => expect((await show(door, id)).status).toBe("queued"), 5_000);
    const waiting = await show(door, id);
    expect(waiting).toMatchObject({
      waiting_on: "no_healthy_card",
      error: null,
      tries: [{ card: "two-a", error: { reason: "origin_status" } }],
    });
    await door.portico.admin("PUT", "/services/two/cards/two-b", { origin: second.url });
    const shown = await over(door, id);
    expect(shown).toMatchObject({ status: "succeeded", attempts: 2, error: null });
    expect(shown.tries.map(({ card, error }) => [card, error?.["reason"] ?? null])).toEqual([
      ["two-a", "origin_status"],
      ["two-b", null],
    ]);
    const events = await door.ask(`/v1/jobs/${id}/events`);
    const states = [...events.text.matchAll(/event: state\ndata: .*?"status":"(\w+)"/g)].map(([, status]) => status);
    expect(states).toEqual(["queued", "running", "queued", "running", "succeeded"]);
  } finally {
    first.close();
    second.close();
  }
});

test("a job canceled during the pause before a retry costs nothing and never runs again", async () => {
  calls.length = 0;
  sick = () => 500;
  const key = await door.key({ limits: { results_per_month: 1, requests_per_minute: 60, burst: 2 } });
  const id = await submitted(door, job, key);
  expect(await paused(id, key)).toMatchObject({ status: "queued", waiting_on: null, queue_position: null });
  expectOk(await door.ask(`/v1/jobs/${id}/cancel`, { method: "POST", key }));
  sick = () => null;
  expect((await over(door, await submitted(door, job, key), key)).status).toBe("succeeded");
  await new Promise((resolve) => setTimeout(resolve, 16_000));
  expect(await show(door, id, "", key)).toMatchObject({ status: "canceled", attempts: 1 });
  expect(calls).toHaveLength(2);
});

test(
  "after a temporary failure the job is retried after at least 10 s on another card and succeeds",
  async () => {
    calls.length = 0;
    sick = (_card, call) => (call === 1 ? 500 : null);
    const id = await submitted(door, job);
    const { retry_at: retryAt } = await paused(id, door.ownKey);
    const pauseMs = Date.parse(retryAt) - (calls[0]?.at ?? 0);
    expect(pauseMs).toBeGreaterThan(9_900);
    expect(pauseMs).toBeLessThan(16_000);
    // A lost start is detected and repeated after a minute.
    const shown = await over(door, id, door.ownKey, SLOW_MS_MAX / 2);
    expect(shown).toMatchObject({ status: "succeeded", attempts: 2, error: null });
    expect(calls[1]?.at).toBeGreaterThanOrEqual(Date.parse(retryAt) - 100);
    expect(calls.map(({ card }) => card)).toEqual([calls[0]?.card, expect.not.toBeOneOf([calls[0]?.card])]);
  },
  SLOW_MS_MAX,
);

test(
  "after a lasting failure the job is retried three times on other cards, later each time, and costs nothing",
  async () => {
    calls.length = 0;
    sick = () => 503;
    const key = await door.key({ limits: { results_per_month: 1 } });
    const id = await submitted(door, job, key);
    const shown = await over(door, id, key, SLOW_MS_MAX);
    expect(shown).toMatchObject({
      status: "failed",
      attempts: 4,
      error: { code: "bad_gateway", reason: "origin_status" },
    });
    expect(new Set(tries(shown).map(({ card }) => card)).size).toBe(4);
    const pauses = calls.slice(1).map(({ at }, i) => (at - (calls[i]?.at ?? 0)) / 1000);
    expect(pauses).toHaveLength(3);
    for (const [i, pause] of pauses.entries()) {
      expect(pause).toBeGreaterThan(10 * 2 ** i - 0.2);
      expect(pause).toBeLessThan(10 * 2 ** i * 1.5 + 3);
    }
    sick = () => null;
    expect((await over(door, await submitted(door, job, key), key)).status).toBe("succeeded");
  },
  SLOW_MS_MAX,
);
