import { afterEach, expect, test } from "vitest";
import { type Caller, eventually, refusal, sleep, tally } from "./caller.ts";
import type { Answer } from "../support/raw.ts";
import { openLine } from "./line.ts";

const line = openLine();
const CARDS = ["gpu-01-0", "gpu-01-1", "gpu-02-0", "gpu-02-1", "gpu-03-0", "gpu-03-1"];
/** The contract's limit, plus time for a loaded machine. */
const WITHIN_A_SECOND_MS = 3_000;

const setState = (card: string, state: string) => line.portico.admin("PATCH", `/cards/${card}`, { state });
const setAll = (state: string) => Promise.all(CARDS.map((card) => setState(card, state)));
afterEach(() => setAll("active"));

const answers = (callers: Caller[]) => Promise.all(callers.map((caller) => caller.answered));

/** A service with runs on every slot and five more requests in line. */
async function fullHouse() {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 4_000 });
  const running = await line.calls(12, { service, key });
  await line.running(running);
  const waiting = await line.calls(5, { service, key });
  await eventually("five wait", async () => (await line.queued(service)) === 5);
  return { service, key, running, waiting };
}

async function withinASecond(callers: Caller[]): Promise<Answer[]> {
  const from = performance.now();
  const answered = await answers(callers);
  expect(performance.now() - from).toBeLessThan(WITHIN_A_SECOND_MS);
  return answered;
}

test("paused: new requests are refused, runs end, and waiting requests start on resume", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 100 });
  const letGo = await line.takeAll();
  const waiting = await line.calls(5, { service, key });
  await eventually("five wait", async () => (await line.queued(service)) === 5);
  await line.portico.admin("POST", `/services/${service.id}/pause`);
  const refused = await line.ask({ service, key });
  expect(refusal(refused)).toBe("503 paused");
  expect(Number(refused.header("retry-after"))).toBeGreaterThanOrEqual(1);
  letGo();
  await eventually("the cards are idle", () => line.park.counts().running === 0);
  await sleep(500);
  expect(waiting.map((caller) => line.starts(caller))).toEqual([0, 0, 0, 0, 0]);
  await line.portico.admin("POST", `/services/${service.id}/resume`);
  expect(tally(await answers(waiting))).toEqual({ 200: 5 });
});

test("paused: waiting requests stay in line until queue.timeout_s", async () => {
  const service = await line.service({ queue: { timeout_s: 3 } });
  const key = await line.key();
  const letGo = await line.takeAll();
  const waiting = await line.call({ service, key });
  await eventually("one waits", async () => (await line.queued(service)) === 1);
  await line.portico.admin("POST", `/services/${service.id}/pause`);
  letGo();
  expect(refusal(await waiting.answered)).toBe("503 queue_timeout");
  expect(line.starts(waiting)).toBe(0);
});

test("pausing one service does not affect another on the same cards", async () => {
  const [paused, other] = [await line.service(), await line.service()];
  const key = await line.key();
  line.park.setService({ service_ms: 50 });
  await line.portico.admin("POST", `/services/${paused.id}/pause`);
  expect(refusal(await line.ask({ service: paused, key }))).toBe("503 paused");
  expect((await line.ask({ service: other, key })).status).toBe(200);
});

test.each(["draining", "disabled"])(
  "a %s card gets no new runs, its runs end, and it takes work again when active",
  async (state) => {
    const service = await line.service();
    const key = await line.key();
    line.park.setService({ service_ms: 2_000 });
    const running = await line.calls(12, { service, key });
    await line.running(running);
    await setState("gpu-01-0", state);
    line.park.setService({ service_ms: 20 });
    expect(tally(await answers(running))).toEqual({ 200: 12 });
    const startsBefore = line.park.counts().cards["gpu-01-0"]?.starts;
    expect(startsBefore).toBe(2);
    expect(tally(await answers(await line.calls(30, { service, key })))).toEqual({ 200: 30 });
    expect(line.park.counts().cards["gpu-01-0"]?.starts).toBe(startsBefore);
    await setState("gpu-01-0", "active");
    await line.fillsUp();
  },
);

test("all cards disabled: new requests get 503 at once, waiting ones within a second, and runs end", async () => {
  const { service, key, running, waiting } = await fullHouse();
  await setAll("disabled");
  const refused = await withinASecond(waiting);
  expect(refused.map(refusal)).toEqual(refused.map(() => "503 no_healthy_card"));
  expect(refused.every((answer) => Number(answer.header("retry-after")) >= 1)).toBe(true);
  expect(refusal(await line.ask({ service, key }))).toBe("503 no_healthy_card");
  await eventually(
    "the status says it",
    async () => (await line.status()).services.find(({ id }) => id === service.id)?.healthy_cards === 0,
  );
  expect(tally(await answers(running))).toEqual({ 200: 12 });
  expect(line.park.counts()).toMatchObject({ starts: 12, done: 12 });
  await setAll("active");
  await line.fillsUp();
});

test("a card with fewer slots runs down to them, and a card with more slots takes more at once", async () => {
  const service = await line.service({}, { cards: ["gpu-02-0"] });
  const key = await line.key();
  line.park.setService({ service_ms: 500 });
  const running = await line.calls(2, { service, key });
  await line.running(running);
  await line.portico.admin("PATCH", "/cards/gpu-02-0", { slots: 1 });
  const more = await line.calls(3, { service, key });
  expect(tally(await answers([...running, ...more]))).toEqual({ 200: 5 });
  const runs = line.park.runs("gpu-02-0").filter((run) => more.some(({ prompt }) => run.prompt === prompt));
  for (const [i, run] of runs.entries()) {
    if (i > 0) expect(run.started_at).toBeGreaterThanOrEqual(runs[i - 1]?.ended_at ?? Infinity);
  }
  line.park.setService({ service_ms: 3_000 });
  const last = await line.calls(2, { service, key });
  await eventually("one runs", () => line.park.counts().running === 1);
  await eventually("one waits", async () => (await line.queued(service)) === 1);
  await line.portico.admin("PATCH", "/cards/gpu-02-0", { slots: 2 });
  await line.running(last);
  expect(line.park.counts().running).toBe(2);
  expect(tally(await answers(last))).toEqual({ 200: 2 });
});

test("a card removed from a service finishes its runs, gets no new ones, and loses no slot", async () => {
  const service = await line.service({}, { cards: ["gpu-03-0", "gpu-03-1"] });
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  const running = await line.calls(4, { service, key });
  await line.running(running);
  await line.portico.admin("DELETE", `/services/${service.id}/cards/gpu-03-0`);
  line.park.setService({ service_ms: 50 });
  const more = await line.calls(6, { service, key });
  expect(tally(await answers([...running, ...more]))).toEqual({ 200: 10 });
  expect(line.park.counts().cards["gpu-03-0"]?.starts).toBe(2);
  await line.fillsUp();
});

test("when a service is deleted its runs end, waiting requests get 503 within a second, no slot is lost", async () => {
  const { service, key, running, waiting } = await fullHouse();
  await line.portico.admin("DELETE", `/services/${service.id}`);
  const refused = await withinASecond(waiting);
  expect(refused.map(({ status }) => status)).toEqual(refused.map(() => 503));
  expect(tally(await answers(running))).toEqual({ 200: 12 });
  expect((await line.ask({ service, key })).status).toBe(404);
  await line.fillsUp();
});
