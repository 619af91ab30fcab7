import { expect, test } from "vitest";
import { type Caller, eventually, refusal, sleep, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine();
const BAD = "gpu-02-1";
/** Longer than any test, so that no card is tried again in it. */
const BREAKER = { max_fails: 3, fail_timeout_s: 60 };
const FAIL_TIMEOUT_S = 2;
/** Difference between two clocks of one machine. */
const CLOCKS_MS = 50;

const startsOnBad = () => line.park.counts().cards[BAD]?.starts ?? 0;
/** When the bad card was tried; simultaneous starts on its two slots count as one try. */
function triesOnBad(): number[] {
  const starts = line.park.runs(BAD).map((run) => run.started_at);
  return starts.filter((at, i) => i === 0 || at - (starts[i - 1] ?? 0) > FAIL_TIMEOUT_S * 500);
}

const answers = (callers: Caller[]) => Promise.all(callers.map((caller) => caller.answered));

/** Sends requests to all cards and expects all of them to succeed. */
async function askMany(service: Service, key: string, count: number): Promise<void> {
  expect(tally(await answers(await line.calls(count, { service, key })))).toEqual({ 200: count });
}

const healthy = async (service: Service) =>
  (await line.status()).services.find(({ id }) => id === service.id)?.healthy_cards;

test("max_fails failures eject a card, and nothing more is sent to it", async () => {
  const service = await line.service({ breaker: BREAKER });
  const key = await line.key();
  line.park.setService({ service_ms: 40 });
  await line.park.setFault(BAD, { kind: "status", status: 500 });
  await askMany(service, key, 60);
  // One may have been in progress on the other slot when the third failed.
  expect(startsOnBad()).toBeGreaterThanOrEqual(3);
  expect(startsOnBad()).toBeLessThanOrEqual(4);
  const ejected = startsOnBad();
  await eventually("the status says it", async () => (await healthy(service)) === 5);
  await askMany(service, key, 30);
  expect(startsOnBad()).toBe(ejected);
});

test("half-open lets one request through; a failure ejects the card again, a success brings it back", async () => {
  const service = await line.service({ breaker: { max_fails: 1, fail_timeout_s: FAIL_TIMEOUT_S } });
  const key = await line.key();
  line.park.setService({ service_ms: 40 });
  await line.park.setFault(BAD, { kind: "status", status: 500 });
  await eventually("it was tried twice after its ejection", async () => {
    await askMany(service, key, 12);
    return triesOnBad().length >= 3;
  });
  for (const [i, at] of triesOnBad().entries()) {
    if (i > 0) expect(at - (triesOnBad()[i - 1] ?? 0)).toBeGreaterThan(FAIL_TIMEOUT_S * 1_000 - CLOCKS_MS);
  }
  await line.park.heal(BAD);
  await eventually("it takes work again", async () => {
    await askMany(service, key, 12);
    return (await healthy(service)) === 6;
  });
  const back = startsOnBad();
  await askMany(service, key, 36);
  expect(startsOnBad() - back).toBeGreaterThanOrEqual(3);
});

test("health is kept per listing: a card that fails one service keeps working for another", async () => {
  const [failing, other] = [
    await line.service({ breaker: BREAKER }),
    await line.service({ breaker: BREAKER }, { kind: "tts" }),
  ];
  const key = await line.key();
  line.park.setService({ service_ms: 40 });
  await line.park.setFault(BAD, { kind: "status", status: 500, paths: ["txt2img"] });
  await askMany(failing, key, 40);
  await eventually("it is ejected from the one", async () => (await healthy(failing)) === 5);
  await eventually("the other has all of them", async () => (await healthy(other)) === 6);
  const before = startsOnBad();
  await askMany(other, key, 36);
  expect(startsOnBad() - before).toBeGreaterThanOrEqual(3);
});

test("a card that refuses connections causes no caller an error and is used again after it recovers", async () => {
  const service = await line.service({ breaker: { max_fails: 1, fail_timeout_s: 1 } });
  const key = await line.key();
  line.park.setService({ service_ms: 40 });
  await line.park.setFault(BAD, { kind: "refuse" });
  await askMany(service, key, 40);
  await eventually("it is ejected", async () => (await healthy(service)) === 5);
  await line.park.heal(BAD);
  await eventually("it takes work again", async () => {
    await askMany(service, key, 12);
    return startsOnBad() > 0;
  });
});

test("a caller that hangs up does not count as a failure of the card", async () => {
  const service = await line.service(
    { breaker: { max_fails: 1, fail_timeout_s: 60 }, abandon: "cancel" },
    { cards: [BAD] },
  );
  const key = await line.key();
  // Before the head of the response, and in the middle of its body.
  line.park.setService({ service_ms: 2_000, ghost: false });
  const before = await line.calls(2, { service, key });
  await line.running(before);
  for (const caller of before) caller.hangUp();
  await line.conserved();
  line.park.setService({ service_ms: 20 });
  await line.park.setFault(BAD, { kind: "stall", fraction: 0.5 });
  const within = await line.calls(2, { service, key });
  await line.running(within);
  await sleep(500);
  for (const caller of within) caller.hangUp();
  await line.conserved();
  await line.park.heal(BAD);
  expect((await line.ask({ service, key })).status).toBe(200);
});

test("a slow card is not ejected", async () => {
  const service = await line.service({ breaker: { max_fails: 1, fail_timeout_s: 60 } });
  const key = await line.key();
  line.park.setService({ service_ms: 60 });
  await line.park.setFault(BAD, { kind: "slow", factor: 10 });
  await askMany(service, key, 60);
  await eventually("all take work", async () => (await healthy(service)) === 6);
  expect(startsOnBad()).toBeGreaterThanOrEqual(2);
});

test("when every card is ejected, waiting requests are refused at once, and a recovered card is found", async () => {
  const service = await line.service({ breaker: { max_fails: 1, fail_timeout_s: 2 }, retry: { tries: 1 } });
  const key = await line.key();
  line.park.setService({ service_ms: 20 });
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "status", status: 500 });
  const failed = await answers(await line.calls(40, { service, key }));
  const told = new Set(failed.map(refusal));
  expect([...told].toSorted()).toEqual(["502 origin_status", "503 no_healthy_card"]);
  // Twelve at once, and one trial for each card beyond the half that may be ejected on suspicion.
  expect(line.park.counts().starts).toBeLessThanOrEqual(12 + 3);
  await line.park.heal("gpu-03-0");
  await eventually("it is served again", async () => (await line.ask({ service, key })).status === 200);
});
