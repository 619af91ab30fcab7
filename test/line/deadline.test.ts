import { expect, test } from "vitest";
import { eventually, refusal } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine({ park: { servers: 1, gpus: 1 } });
const SLOTS = 2;
const ONE_SECOND = { "x-timeout-s": "1" };
/** The one-second deadline plus the time a loaded machine may take. */
const SOON_MS = 8_000;

async function timed<T>(work: Promise<T>): Promise<{ value: T; ms: number }> {
  const from = performance.now();
  return { value: await work, ms: performance.now() - from };
}

test("a deadline that passes on a card, without an estimate, is 504; finish keeps the result", async () => {
  const service = await line.service({ abandon: "finish" });
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const headers = { ...ONE_SECOND, "x-request-id": "too-slow-for-me" };
  const { value: answer, ms } = await timed(line.ask({ service, key, headers }));
  expect(refusal(answer)).toBe("504 origin_timeout");
  expect(ms).toBeGreaterThanOrEqual(1_000);
  await eventually("the run is done", () => line.park.counts().done === 1);
  await eventually(
    "its result is kept",
    async () => (await line.became("too-slow-for-me", key))?.state === "succeeded",
  );
  expect((await line.became("too-slow-for-me", key))?.results).toHaveLength(1);
  expect(line.park.counts()).toMatchObject({ starts: 1, left: 0 });
});

test("a deadline that passes on a card frees the slot at once if the service cancels", async () => {
  const service = await line.service({ abandon: "cancel" });
  const key = await line.key();
  line.park.setService({ service_ms: 60_000, ghost: false });
  const headers = { ...ONE_SECOND, "x-request-id": "too-late" };
  expect(refusal(await line.ask({ service, key, headers }))).toBe("504 origin_timeout");
  await line.conserved();
  expect(line.park.counts()).toMatchObject({ starts: 1, stopped: 1 });
  // The caller was connected all the time.
  expect(await line.became("too-late", key)).toMatchObject({ state: "failed", status: 504 });
});

test("a deadline that passes in line is 503 queue_timeout, and the request never starts", async () => {
  const service = await line.service();
  const key = await line.key();
  const letGo = await line.takeAll();
  const { value: answer, ms } = await timed(line.ask({ service, key, headers: ONE_SECOND }));
  expect(refusal(answer)).toBe("503 queue_timeout");
  expect(ms).toBeGreaterThanOrEqual(1_000);
  expect(ms).toBeLessThan(SOON_MS);
  letGo();
  await line.conserved();
  expect(line.park.counts().starts).toBe(SLOTS);
});

test("a request whose deadline is too early by the estimate is refused at once, even if a card is free", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 2_500 });
  expect((await line.ask({ service, key })).status).toBe(200);
  // A free card would start it, but it would still be too late.
  expect(refusal(await line.ask({ service, key, headers: ONE_SECOND }))).toBe("503 deadline_unmeetable");
  const letGo = await line.takeAll();
  expect(refusal(await line.ask({ service, key, headers: { "x-timeout-s": "3" } }))).toBe("503 deadline_unmeetable");
  letGo();
  await line.conserved();
  expect(line.park.counts().starts).toBe(1 + SLOTS);
  // A request with enough time is admitted.
  expect((await line.ask({ service, key, headers: { "x-timeout-s": "60" } })).status).toBe(200);
});

test("a job whose deadline is too early by the estimate is refused at once", async () => {
  const service = await line.service({ abandon: "cancel" });
  const key = await line.key();
  line.park.setService({ service_ms: 2_500 });
  expect((await line.ask({ service, key })).status).toBe(200);
  const asJob = (prefer: string, seconds: string) =>
    line.ask({ service, key, headers: { prefer, "x-timeout-s": seconds } });
  expect(refusal(await asJob("respond-async", "1"))).toBe("503 deadline_unmeetable");
  line.park.setService({ service_ms: 60_000, ghost: false });
  const callers = await line.calls(SLOTS, { service, key });
  await eventually("every slot is taken", () => line.park.counts().running === SLOTS);
  line.park.setService({ service_ms: 2_500 });
  // It would have to wait for a slot as well.
  expect(refusal(await asJob("wait=20", "3"))).toBe("503 deadline_unmeetable");
  const taken = await asJob("respond-async", "60");
  expect(taken.status).toBe(202);
  for (const caller of callers) caller.hangUp();
  const isDone = async (): Promise<boolean> =>
    (await line.became(taken.header("x-request-id") ?? "", key))?.state === "succeeded";
  await eventually("the job is done", isDone);
});

test("the estimate counts the requests ahead in line", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 1_000 });
  expect((await line.ask({ service, key })).status).toBe(200);
  const letGo = await line.takeAll();
  const waiting = await line.calls(10, { service, key });
  await eventually("ten wait", async () => (await line.queued(service)) === 10);
  // Ten runs of a second on two slots, then its own: four seconds are not enough.
  expect(refusal(await line.ask({ service, key, headers: { "x-timeout-s": "4" } }))).toBe("503 deadline_unmeetable");
  for (const caller of waiting) caller.hangUp();
  await eventually("nobody waits", async () => (await line.queued(service)) === 0);
  letGo();
});

test("the deadline is for the first byte: a stream that began in time is not cut by it", async () => {
  const services = await Promise.all(["finish", "cancel"].map((abandon) => line.service({ abandon }, { kind: "tts" })));
  const key = await line.key();
  line.park.setService({ service_ms: 4_500, speech_s: 4, chunk_ms: 100 });
  const ask = (service: Service) => line.ask({ service, key, body: { stream: true }, headers: { "x-timeout-s": "3" } });
  const answers = await Promise.all(services.map(ask));
  expect(answers.map(({ status, whole }) => [status, whole])).toEqual(answers.map(() => [200, true]));
  for (const { body } of answers) expect(body.length).toBeGreaterThan(4 * 24_000 * 2);
  expect(line.park.counts()).toMatchObject({ starts: 2, done: 2, left: 0 });
});
