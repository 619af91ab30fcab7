/** What is counted as used, against what the simulated cards know that they ran. */
import { expect, test } from "vitest";
import { raw } from "../support/raw.ts";
import { eventually, tally } from "./caller.ts";
import { openLine } from "./line.ts";

const line = openLine({ child: true, park: { servers: 1, gpus: 2 } });
const SLOTS = 4;
const TTS = { kind: "tts" as const };
/** What a run may take beyond its time on the GPU, s: connecting, drawing, a loaded machine. */
const AROUND_S = 0.4;
/** A card may see the end of a call a moment after us. */
const SEEN_S = 0.1;
const TEST_MS_MAX = 120_000;

interface Totals {
  requests: number;
  hits: number;
  results: number;
  bytes: number;
  gpu_seconds: number;
  refusals: Record<string, number>;
}

async function used(key: string): Promise<Totals> {
  const answer = await raw(line.portico.url, { target: "/v1/usage", headers: { authorization: `Bearer ${key}` } });
  const { totals }: { totals: Totals } = JSON.parse(answer.text);
  return totals;
}

/** The cards' own count of what they ran since the test began is what was counted, for so many runs. */
function expectGpuTime({ gpu_seconds }: Totals, runs: number): void {
  const { busy_ms, starts } = line.park.counts();
  expect(starts).toBe(runs);
  expect(gpu_seconds).toBeGreaterThanOrEqual(busy_ms / 1000 - SEEN_S * runs);
  expect(gpu_seconds).toBeLessThan(busy_ms / 1000 + AROUND_S * runs);
}

test("pictures and sounds, whole and streamed: each run once, with the time that its card worked", async () => {
  const [pictures, sounds] = [await line.service(), await line.service({}, TTS)];
  const key = await line.key();
  line.park.setService({ service_ms: 400, speech_s: 1, chunk_ms: 100 });
  const asked = [
    ...(await line.calls(4, { service: pictures, key })),
    ...(await line.calls(3, { service: sounds, key })),
    ...(await line.calls(3, { service: sounds, key, body: { stream: true } })),
  ];
  const answers = await Promise.all(asked.map((caller) => caller.answered));
  expect(tally(answers)).toEqual({ 200: 10 });
  const bytes = answers.reduce((sum, { body }) => sum + body.length, 0);
  await eventually("all of them are counted", async () => (await used(key)).requests === 10);
  const totals = await used(key);
  expect(totals).toMatchObject({ hits: 0, results: 10, bytes, refusals: {} });
  expectGpuTime(totals, 10);
});

test("a failed try's time counts with the one that made it, and a failure's without a result", async () => {
  const service = await line.service({ retry: { tries: 2 } });
  const key = await line.key();
  line.park.setService({ service_ms: 500 });
  const [first, second] = line.park.cards.map(({ card }) => card);
  await line.park.setFault(first ?? "", { kind: "status", status: 500, at: "end", times: 1 });
  await line.park.setFault(second ?? "", { kind: "status", status: 500, at: "end", times: 1 });
  expect((await line.ask({ service, key })).status).toBe(502);
  const failed = await used(key);
  expect(failed).toMatchObject({ requests: 1, results: 0, bytes: 0, refusals: { origin_status: 1 } });
  expectGpuTime(failed, 2);
  await line.park.setFault(first ?? "", { kind: "reset", at: "after", after_ms: 300, times: 1 });
  const { status, body } = await line.ask({ service, key });
  expect(status).toBe(200);
  await line.park.heal();
  const totals = await used(key);
  expect(totals).toMatchObject({ requests: 2, results: 1, bytes: body.length, refusals: { origin_status: 1 } });
  expectGpuTime(totals, line.park.counts().starts);
});

test("whoever hangs up in line costs no GPU time, and a run that is finished for one who is gone counts", async () => {
  const service = await line.service({ abandon: "finish" });
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const running = await line.calls(SLOTS, { service, key });
  await line.running(running);
  const waiting = await line.calls(5, { service, key });
  await eventually("they wait", async () => (await line.queued(service)) === 5);
  for (const caller of waiting) caller.hangUp();
  await eventually("they have left", async () => (await used(key)).refusals["client_gone"] === 5);
  expect(await used(key)).toMatchObject({ requests: 5, gpu_seconds: 0 });
  running[0]?.hangUp();
  await eventually("all are done", async () => (await used(key)).requests === SLOTS + 5);
  const totals = await used(key);
  expect(totals).toMatchObject({ results: SLOTS, refusals: { client_gone: 6 } });
  const heard = await Promise.all(running.slice(1).map((caller) => caller.answered));
  expect(totals.bytes).toBe(heard.reduce((sum, { body }) => sum + body.length, 0));
  expectGpuTime(totals, SLOTS);
});

test("a caller who hangs up in a stream: what was handed on, and the time until the card's end", async () => {
  const service = await line.service({ abandon: "cancel" }, TTS);
  const key = await line.key();
  line.park.setService({ service_ms: 3_000, speech_s: 3, chunk_ms: 100, ghost: false });
  const caller = await line.call({ service, key, body: { stream: true } });
  await caller.head();
  await line.running([caller]);
  caller.hangUp();
  await eventually("it is counted", async () => (await used(key)).requests === 1);
  const totals = await used(key);
  expect(totals).toMatchObject({ results: 0, refusals: { client_gone: 1 } });
  expect(totals.bytes).toBeLessThan(3 * 48_000);
  expectGpuTime(totals, 1);
});

test(
  "what was answered before a kill -9 is counted after it, and once",
  async () => {
    const service = await line.service({ drain: { max_s: 3 } });
    const key = await line.key();
    line.park.setService({ service_ms: 200 });
    let bytes = 0;
    for (let round = 1; round <= 3; round++) {
      const answers = await Promise.all((await line.calls(SLOTS, { service, key })).map((caller) => caller.answered));
      expect(tally(answers)).toEqual({ 200: SLOTS });
      bytes += answers.reduce((sum, { body }) => sum + body.length, 0);
      // At once: the last answer is no older than its last byte.
      await line.portico.kill9();
      await line.portico.restart();
      const totals = await used(key);
      expect(totals).toMatchObject({ requests: round * SLOTS, results: round * SLOTS, bytes, refusals: {} });
      expectGpuTime(totals, round * SLOTS);
    }
  },
  TEST_MS_MAX,
);
