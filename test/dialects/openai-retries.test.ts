/** What the official client retries by itself, counted at the origin, and what it must not retry. */
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "../contract/origin.ts";
import { openai, refused } from "./client.ts";

const door = doorway({ cards: [] });
let origin: Origin;
beforeAll(async () => {
  origin = await Origin.open();
  const breaker = { max_fails: 1_000 };
  await listOrigin(door, origin, "one", {
    kind: "image",
    route: "/one/",
    retry: { tries: 1 },
    breaker,
    drain: { max_s: 0.2 },
  });
});
beforeEach(() => {
  origin.seen.length = 0;
  origin.answering = answerImage;
});
afterAll(() => origin.close());

const ASKED = { model: "one", prompt: "x" } as const;
const paint = (client: OpenAI) => client.images.generate(ASKED);

const cut: Answering = (res) => res.destroy();

/** Answers in turn, and repeats the last one. */
function inTurn(...answers: Answering[]): void {
  origin.answering = (res, seen) => ((answers.length > 1 ? answers.shift() : answers[0]) ?? answerImage)(res, seen);
}

test("the client retries cut connections of the origin until it answers, and no further", async () => {
  inTurn(cut, cut, answerImage);
  expect((await paint(openai(door, { maxRetries: 2 }))).data).toHaveLength(1);
  expect(origin.seen).toHaveLength(3);
});

test("an origin that stays broken is an InternalServerError after the client's retries", async () => {
  inTurn((res) => res.writeHead(500).end());
  const error = await refused(paint(openai(door, { maxRetries: 1 })));
  expect(error).toBeInstanceOf(OpenAI.InternalServerError);
  expect(error).toMatchObject({ status: 502, code: "bad_gateway" });
  expect(error.message).toContain("The GPU server answered with status 500; try again.");
  expect(origin.seen).toHaveLength(2);
});

test("the client waits after 429 as Retry-After says, and then succeeds", async () => {
  const apiKey = await door.key({ limits: { requests_per_minute: 60, burst: 1 } });
  const client = openai(door, { apiKey, maxRetries: 2 });
  await paint(client);
  const from = performance.now();
  await paint(client);
  expect(performance.now() - from).toBeGreaterThan(900);
  expect(origin.seen).toHaveLength(2);
  await paint(client);
  const error = await refused(paint(openai(door, { apiKey })));
  expect(error).toBeInstanceOf(OpenAI.RateLimitError);
  expect(error).toMatchObject({ code: "rate_limited" });
  expect(Number(error.headers?.get("retry-after"))).toBeLessThanOrEqual(3);
});

test("an exhausted quota is not retried", async () => {
  const apiKey = await door.key({ limits: { results_per_month: 1 } });
  await paint(openai(door, { apiKey }));
  const from = performance.now();
  const error = await refused(paint(openai(door, { apiKey, maxRetries: 2 })));
  expect(performance.now() - from).toBeLessThan(900);
  expect(error).toBeInstanceOf(OpenAI.RateLimitError);
  expect(error.headers?.get("x-should-retry")).toBe("false");
  expect(origin.seen).toHaveLength(1);
});

test("the client retries a 503 after Retry-After, and succeeds once the service has resumed", async () => {
  await door.portico.admin("POST", "/services/one/pause");
  const call = paint(openai(door, { maxRetries: 3 }));
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(origin.seen).toHaveLength(0);
  await door.portico.admin("POST", "/services/one/resume");
  expect((await call).data).toHaveLength(1);
  expect(origin.seen).toHaveLength(1);
});

test("an error that a retry cannot fix is not retried", async () => {
  const client = openai(door, { maxRetries: 2 });
  const error = await refused(client.images.generate(ASKED, { headers: { "cache-control": "only-if-cached" } }));
  expect(error).toMatchObject({ status: 504, code: "gateway_timeout" });
  expect(error.headers?.get("x-should-retry")).toBe("false");
});

test("the client's timeout is the request's deadline: a request that cannot meet it is refused at once", async () => {
  await listOrigin(door, origin, "slow", { kind: "image", route: "/slow/" });
  inTurn((res, seen) => void setTimeout(() => answerImage(res, seen), 1_500));
  const asked = { ...ASKED, model: "slow" };
  await openai(door).images.generate(asked);
  const from = performance.now();
  const error = await refused(openai(door).images.generate(asked, { timeout: 1_000 }));
  expect(performance.now() - from).toBeLessThan(700);
  expect(error).toMatchObject({ status: 503, code: "service_unavailable" });
  expect(error.message).toContain("deadline");
  expect(origin.seen).toHaveLength(1);
});

test("an abort throws the client's typed error at once, and the result is found by the request id", async () => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<() => void>();
  origin.answering = (res, seen) => begin(() => answerImage(res, seen));
  const controller = new AbortController();
  const headers = { "x-request-id": "aborted" };
  const aborted = openai(door).images.generate(ASKED, { signal: controller.signal, headers });
  const gone = expect(aborted).rejects.toThrow(OpenAI.APIUserAbortError);
  const answer = await begun;
  controller.abort();
  await gone;
  answer();
  const became = async () =>
    JSON.parse((await door.ask("/v1/requests/aborted")).text) as { state: string; results: object[] };
  await expect.poll(became).toMatchObject({ state: "succeeded", results: [{ content_type: "image/png" }] });
  expect(origin.seen).toHaveLength(1);
});

test("an answer too large to convert is run once: the client is told not to retry it", async () => {
  const images = ["A".repeat(25 * 1024 * 1024)];
  origin.answering = (res) => {
    res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ images }));
  };
  const error = await refused(paint(openai(door, { maxRetries: 2 })));
  expect(error).toMatchObject({ status: 502, error: { reason: "origin_invalid", retryable: false } });
  expect(error.headers?.get("x-should-retry")).toBe("false");
  expect(error.message).toMatch(/larger than 24 MiB.*fewer or smaller images/);
  expect(origin.seen).toHaveLength(1);
});

test("retries after a client timeout that is shorter than the run join that run", async () => {
  const runMs = 2_000;
  origin.answering = (res, seen) => void setTimeout(() => answerImage(res, seen), runMs);
  const sent: string[] = [];
  const counting: typeof fetch = (url, init) => {
    sent.push(new Headers(init?.headers).get("x-stainless-retry-count") ?? "");
    return fetch(url, init);
  };
  const client = openai(door, { timeout: 900, maxRetries: 5, fetch: counting });
  expect((await paint(client)).data).toHaveLength(1);
  expect(sent.length).toBeGreaterThan(1);
  expect(origin.seen).toHaveLength(1);
});
