import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import {
  attemptAt,
  type CardStub,
  type CardUnderTest,
  claim,
  CLEAN,
  crash,
  eventually,
  evict,
  FAILED,
  fresh,
  gateOf,
  listing,
  makeCard,
  passTime,
  reconfigure,
  run,
} from "./objects.ts";

const OUT_MS = 30_000;

async function failTimes(stub: CardStub, service: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) await run(stub, attemptAt(service), FAILED);
}

test("failures within the time window eject the card for that service only", async () => {
  const { stub } = await makeCard("s", { listings: [listing("s"), listing("t")] });
  await failTimes(stub, "s", 2);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
  await failTimes(stub, "s", 1);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "open", reason: "origin_status" });
  expect(await stub.claim(attemptAt("s"))).toMatchObject({ no: "ejected" });
  await claim(stub, attemptAt("t"));
});

test("runs that report success or no health at all never eject a card", async () => {
  const { stub } = await makeCard("s");
  for (let i = 0; i < 10; i++) {
    const { lease } = await claim(stub, attemptAt("s"));
    await lease.release(i % 2 === 0 ? CLEAN : { clean: true, health: null, reason: "client_gone" });
  }
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
});

test("health survives eviction: earlier failures still count, and an open breaker stays open", async () => {
  const { stub } = await makeCard("s");
  await failTimes(stub, "s", 2);
  await evict(stub);
  await failTimes(stub, "s", 1);
  const open = await gateOf(stub, "s");
  expect(open).toMatchObject({ state: "open" });
  await evict(stub);
  expect(await gateOf(stub, "s")).toEqual(open);
});

/** A card whose breaker has become half-open. */
async function halfOpen(): Promise<CardUnderTest> {
  const card = await makeCard("s");
  await failTimes(card.stub, "s", 3);
  passTime(OUT_MS + 1);
  expect(await gateOf(card.stub, "s")).toMatchObject({ state: "half_open" });
  return card;
}

test("a half-open breaker admits one request at a time, and the success of that trial closes it", async () => {
  const { stub } = await halfOpen();
  const replies = await Promise.all(Array.from({ length: 10 }, () => stub.claim(attemptAt("s"))));
  const [trial, ...others] = replies.filter((reply) => !("no" in reply));
  expect(others).toEqual([]);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "trial" });
  if (trial === undefined || "no" in trial) throw new Error("nobody may try");
  await trial.lease.release(CLEAN);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
  await claim(stub, attemptAt("s"));
  await claim(stub, attemptAt("s"));
});

test("a trial claimed twice counts as one trial", async () => {
  const { stub } = await halfOpen();
  const attempt = attemptAt("s");
  const first = await claim(stub, attempt);
  expect((await claim(stub, attempt)).number).toBe(first.number);
});

test("a failed trial opens the breaker for the full time again", async () => {
  const { stub } = await halfOpen();
  await failTimes(stub, "s", 1);
  const gate = await gateOf(stub, "s");
  expect(gate).toMatchObject({ state: "open" });
  expect(gate?.untilAt).toBe(Date.now() + OUT_MS);
});

test("a trial that reports no health, or whose holder vanishes, lets the next request try", async () => {
  const { stub } = await halfOpen();
  const vanished = await claim(stub, attemptAt("s"));
  vanished.lease[Symbol.dispose]();
  await eventually(async () => expect(await gateOf(stub, "s")).toMatchObject({ state: "half_open" }));
  const wordless = await claim(stub, attemptAt("s"));
  await wordless.lease.release({ clean: true, health: null, reason: "client_gone" });
  expect(await gateOf(stub, "s")).toMatchObject({ state: "half_open" });
  await (await claim(stub, attemptAt("s"))).lease.release(CLEAN);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
});

test("a trial survives a crash of the Card and ends when it is released by number", async () => {
  const card = await halfOpen();
  const attempt = attemptAt("s");
  const { number } = await claim(card.stub, attempt);
  await crash(card);
  const { stub } = card;
  expect(await stub.claim(attemptAt("s"))).toMatchObject({ no: "ejected" });
  await stub.release(number, attempt.attempt, CLEAN);
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
});

test("a service removed from the card during its trial can be tried again once it is listed again", async () => {
  const card = await makeCard("s");
  await failTimes(card.stub, "s", 3);
  passTime(OUT_MS + 1);
  const { lease } = await claim(card.stub, attemptAt("s"));
  await reconfigure(card, { listings: [] });
  await lease.release(FAILED);
  await reconfigure(card, { listings: [listing("s")] });
  expect(await gateOf(card.stub, "s")).toMatchObject({ state: "half_open" });
  await claim(card.stub, attemptAt("s"));
});

async function poolOf(card: string) {
  const service = fresh("service");
  const stub = env.POOL.getByName(service);
  const queue = { max: 10, timeoutMs: 1_000 };
  await stub.configure({ version: 1, service, paused: false, queue, cards: [{ card, weight: 1 }] });
  const heard = async () => (await stub.status()).reports[0];
  return { service, heard };
}

test("every Pool that lists a card receives reports of its claims, ends and failures", async () => {
  const card = await makeCard("nobody");
  const pools = [await poolOf(card.id), await poolOf(card.id)];
  const [one, two] = pools;
  if (one === undefined || two === undefined) throw new Error("two pools");
  await reconfigure(card, { listings: [listing(one.service), listing(two.service)] });
  const attempt = attemptAt(one.service);
  const { number, lease } = await claim(card.stub, attempt);
  for (const { heard } of pools) {
    await eventually(async () => expect((await heard())?.held).toMatchObject([{ number, attempt: attempt.attempt }]));
  }
  await lease.release(CLEAN);
  await failTimes(card.stub, two.service, 3);
  for (const { heard } of pools) {
    await eventually(async () =>
      expect(await heard()).toMatchObject({
        held: [],
        lastNumber: number + 3,
        gates: { [one.service]: { state: "closed" }, [two.service]: { state: "open" } },
      }),
    );
  }
});

test("a Pool learns that a card no longer lists its service", async () => {
  const card = await makeCard("nobody");
  const { service, heard } = await poolOf(card.id);
  await reconfigure(card, { listings: [listing(service)] });
  await eventually(async () => expect(await heard()).toMatchObject({ version: 2, gates: { [service]: {} } }));
  await reconfigure(card, { listings: [] });
  await eventually(async () => expect(await heard()).toMatchObject({ version: 3, gates: {} }));
});

test("a report after an eviction is newer than all earlier reports", async () => {
  const { stub } = await makeCard("s");
  for (let i = 0; i < 20; i++) await stub.report();
  const before = await stub.report();
  expect((await stub.report()).seq).toBeGreaterThan(before.seq);
  await evict(stub);
  expect((await stub.report()).incarnation).toBeGreaterThan(before.incarnation);
});
