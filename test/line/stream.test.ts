import { expect, test } from "vitest";
import { eventually, refusal, sleep, tally } from "./caller.ts";
import { openLine } from "./line.ts";

const line = openLine({ park: { servers: 1, gpus: 2 } });
const TTS = { kind: "tts" as const };
const STREAM = { stream: true };
const BYTES_PER_S = 24_000 * 2;
/** Length of a WAV header. */
const HEAD_BYTES = 44;

/** Makes speech of `speechS` take `ms`, in chunks of `chunkMs` of sound. Returns its length in bytes. */
function sounds(ms: number, speechS: number, chunkMs = 100): number {
  line.park.setService({ service_ms: ms, speech_s: speechS, chunk_ms: chunkMs });
  return speechS * BYTES_PER_S + HEAD_BYTES;
}

test("chunks reach the caller as the GPU makes them", async () => {
  const service = await line.service({}, TTS);
  const key = await line.key();
  const bytes = sounds(3_000, 3);
  const answer = await line.ask({ service, key, body: STREAM });
  expect(answer).toMatchObject({ status: 200, whole: true });
  expect(answer.body.length).toBe(bytes);
  const [first, last] = [answer.arrivals[0]?.ms ?? 0, answer.arrivals.at(-1)?.ms ?? 0];
  expect(last - first).toBeGreaterThan(2_000);
  expect(answer.arrivals.length).toBeGreaterThan(10);
  // Each chunk arrives when it is made: half of the sound takes about half of the time.
  const [run] = line.park.runs();
  const half = answer.arrivals.find(
    (_, i, all) => all.slice(0, i + 1).reduce((sum, piece) => sum + piece.bytes, 0) >= bytes / 2,
  );
  expect((half?.ms ?? Infinity) - first).toBeLessThan(2_500);
  expect(run?.ended).toBe("done");
});

test("a complete stream is stored: the same request is a hit, and its result is listed", async () => {
  const service = await line.service({}, TTS);
  const key = await line.key();
  const bytes = sounds(500, 2);
  const ask = { service, key, body: STREAM, prompt: "said twice", headers: { "x-request-id": "kept-stream" } };
  expect(await line.ask(ask)).toMatchObject({ status: 200, whole: true });
  await eventually("it is kept", async () => (await line.became("kept-stream", key))?.results.length === 1);
  const again = await line.ask({ ...ask, headers: {} });
  expect(again.header("cache-status")).toMatch(/^portico; hit/);
  expect(again.body.length).toBe(bytes);
  expect(line.park.counts().starts).toBe(1);
});

test.each([
  ["resets", { kind: "reset" as const, at: "body" as const }],
  ["ends without its last chunk", { kind: "truncate" as const, how: "chunked" as const }],
  ["falls silent", { kind: "stall" as const }],
])(
  "a stream whose origin %s midway is cut for the caller, and never stored nor reported as a success",
  async (_, fault) => {
    const service = await line.service({ timeouts: { read_s: 1 } }, TTS);
    const key = await line.key();
    const bytes = sounds(500, 2);
    for (const { card } of line.park.cards) await line.park.setFault(card, fault);
    const ask = { service, key, body: STREAM, prompt: "cut in two" };
    const answer = await line.ask({ ...ask, headers: { "x-request-id": "cut-stream" } });
    expect(answer).toMatchObject({ status: 200, whole: false });
    expect(answer.body.length).toBeLessThan(bytes);
    // The next request shows that nothing of the first was stored.
    await line.park.heal();
    await eventually("it is told as failed", async () => (await line.became("cut-stream", key))?.state === "failed");
    expect((await line.became("cut-stream", key))?.results).toEqual([]);
    const again = await line.ask(ask);
    expect(again.header("cache-status")).toBe("portico; fwd=miss");
    expect(again).toMatchObject({ status: 200, whole: true });
    expect(again.body.length).toBe(bytes);
  },
);

test.each([
  ["before its head", { kind: "reset" as const, at: "start" as const }],
  ["after its head, before the first chunk", { kind: "reset" as const, at: "body" as const, fraction: 0 }],
])("a stream that breaks %s has given the caller no byte: the next card streams it", async (_, fault) => {
  const service = await line.service({ breaker: { max_fails: 100 } }, TTS);
  const key = await line.key();
  const bytes = sounds(300, 1);
  await line.park.setFault("gpu-01-0", fault);
  const answers = await Promise.all(
    (await line.calls(4, { service, key, body: STREAM })).map((caller) => caller.answered),
  );
  expect(tally(answers)).toEqual({ 200: 4 });
  expect(answers.map((answer) => [answer.whole, answer.body.length])).toEqual(answers.map(() => [true, bytes]));
  expect(line.park.counts().cards["gpu-01-0"]?.starts).toBeGreaterThanOrEqual(1);
});

test("if no card can begin a stream, the caller gets a regular refusal", async () => {
  const service = await line.service({ retry: { tries: 2 } }, TTS);
  const key = await line.key();
  sounds(300, 1);
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "reset", at: "body", fraction: 0 });
  expect(refusal(await line.ask({ service, key, body: STREAM }))).toBe("502 origin_reset");
});

test("a slow reader of a small stream holds no slot after the origin has ended", async () => {
  const service = await line.service({}, TTS);
  const key = await line.key();
  const bytes = sounds(500, 10);
  const caller = await line.call({ service, key, body: STREAM });
  await caller.head();
  caller.pause();
  await line.conserved();
  expect(line.park.counts()).toMatchObject({ starts: 1, done: 1 });
  caller.resume();
  const answer = await caller.answered;
  expect([answer.whole, answer.body.length]).toEqual([true, bytes]);
});

test("a slow reader of a large stream slows the origin down, and still gets every byte", async () => {
  const service = await line.service({ timeouts: { read_s: 1 } }, TTS);
  const key = await line.key();
  // More than the socket buffers on both sides can hold (4 + 32 MiB each on current Linux), so the origin cannot
  // finish.
  const bytes = sounds(200, 2_000, 4_000);
  const caller = await line.call({ service, key, body: STREAM });
  await caller.head();
  caller.pause();
  // Longer than read_s: the reader is silent, not the card.
  await sleep(3_000);
  expect(line.park.counts()).toMatchObject({ running: 1, left: 0 });
  expect(await line.leases()).toMatchObject([{ state: "leased" }]);
  caller.resume();
  const answer = await caller.answered;
  expect([answer.whole, answer.body.length]).toEqual([true, bytes]);
});

test("finish: a caller that hangs up during a stream finds the whole sound under its request id", async () => {
  const service = await line.service({ abandon: "finish" }, TTS);
  const key = await line.key();
  const bytes = sounds(3_000, 3);
  const caller = await line.call({ service, key, body: STREAM, headers: { "x-request-id": "hung-up-stream" } });
  await caller.head();
  await sleep(700);
  caller.hangUp();
  await eventually("it is kept", async () => (await line.became("hung-up-stream", key))?.state === "succeeded");
  const became = await line.became("hung-up-stream", key);
  expect(became?.results).toHaveLength(1);
  expect((await (await fetch(became?.results[0]?.url ?? "")).bytes()).length).toBe(bytes);
  expect(line.park.counts()).toMatchObject({ starts: 1, done: 1, left: 0 });
});

test("cancel: a caller that hangs up during a stream frees the slot at once, and nothing is stored", async () => {
  const service = await line.service({ abandon: "cancel" }, TTS);
  const key = await line.key();
  sounds(60_000, 60);
  line.park.setService({ ghost: false });
  const ask = { service, key, body: STREAM, prompt: "never finished" };
  const caller = await line.call({ ...ask, headers: { "x-request-id": "cancelled-stream" } });
  await caller.head();
  await sleep(500);
  caller.hangUp();
  await line.conserved();
  expect(line.park.counts()).toMatchObject({ starts: 1, stopped: 1 });
  expect(await line.became("cancelled-stream", key)).toMatchObject({ state: "canceled", results: [] });
  sounds(100, 1);
  expect((await line.ask(ask)).header("cache-status")).toBe("portico; fwd=miss");
});
