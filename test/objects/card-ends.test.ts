import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { expect, onTestFinished, test, vi } from "vitest";
import { LEASE_MS } from "../../durable-objects/card-protocol.ts";
import {
  attemptAt,
  type CardUnderTest,
  claim,
  CLEAN,
  crash,
  evict,
  expectSlots,
  failureOf,
  listing,
  makeCard,
  passTime,
  run,
  slotsOf,
  UNCLEAN,
} from "./objects.ts";

const DRAIN_MS = 60_000;

test("Every lease ends: it is released, disposed or reaped. Within one lease life after any failure, every slot is free, leased, or draining because its GPU may still be working.", async () => {
  const { stub } = await makeCard("s", { slots: 3 });
  const [released, disposed] = [await claim(stub, attemptAt("s")), await claim(stub, attemptAt("s"))];
  await claim(stub, attemptAt("s"));
  await released.lease.release(CLEAN);
  disposed.lease[Symbol.dispose]();
  await expectSlots(stub, { leased: 1, draining: 1 });
  passTime(LEASE_MS + 1);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 2 });
  expect((await stub.status()).counters).toMatchObject({ done: 1, orphaned: 2, reaped: 1, drained: 0 });
  passTime(DRAIN_MS - LEASE_MS);
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
  expect((await stub.status()).counters).toMatchObject({ reaped: 1, drained: 2 });
  expect(await runDurableObjectAlarm(stub)).toBe(false);
});

test("disposing a stub without a release drains its slot, and a renewal by number restores the lease", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const { number, lease } = await claim(stub, attempt);
  lease[Symbol.dispose]();
  await expectSlots(stub, { leased: 0, draining: 1 });
  expect(await stub.renew(number, attempt.attempt)).toMatchObject({ renewed: true });
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
});

test("disposing a stub after its release changes nothing", async () => {
  const { stub } = await makeCard("s");
  const { lease } = await claim(stub, attemptAt("s"));
  await lease.release(CLEAN);
  lease[Symbol.dispose]();
  await stub.report();
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
});

test("a holder cannot renew after an unclean release, but a later clean release frees the slot", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const { number, lease } = await claim(stub, attempt);
  await lease.release(UNCLEAN);
  expect(await lease.renew()).toEqual({ renewed: false, why: "stale" });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
  expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
});

test("after a crash of its Card a lease's stub fails, its number works, and numbers keep growing", async () => {
  const card = await makeCard("s");
  const attempt = attemptAt("s");
  const { number, lease } = await claim(card.stub, attempt);
  await crash(card);
  const { stub } = card;
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  expect(await failureOf(() => lease.renew())).toContain("no longer running");
  const next = await claim(stub, attemptAt("s"));
  expect(next.number).toBeGreaterThan(number);
  expect(await stub.claim(attemptAt("s"))).toEqual({ no: "full" });
  expect((await claim(stub, attempt)).number).toBe(number);
  expect(await stub.renew(number, attempt.attempt)).toMatchObject({ renewed: true });
  expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
});

test("after an eviction with every slot free, numbers keep growing and ended attempts stay ended", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const number = await run(stub, attempt, CLEAN);
  await evict(stub);
  expect(await stub.claim(attempt)).toEqual({ no: "ended" });
  expect((await claim(stub, attemptAt("s"))).number).toBeGreaterThan(number);
});

test("a Card still reaps expired leases after a crash, because its alarm is stored", async () => {
  const card = await makeCard("s");
  await claim(card.stub, attemptAt("s"));
  await crash(card);
  passTime(LEASE_MS + 1);
  expect(await runDurableObjectAlarm(card.stub)).toBe(true);
  expect(await slotsOf(card.stub)).toEqual({ leased: 0, draining: 1 });
});

test("a release lost in a crash can be repeated; otherwise the lease is reaped", async () => {
  const card = await makeCard("s");
  const [forgotten, repeated] = [attemptAt("s"), attemptAt("s")];
  const leases = [await claim(card.stub, forgotten), await claim(card.stub, repeated)];
  await Promise.all(leases.map(({ lease }) => lease.release(CLEAN)));
  await crash(card);
  expect(await slotsOf(card.stub)).toEqual({ leased: 2, draining: 0 });
  expect(await card.stub.release(leases[1]?.number ?? 0, repeated.attempt, CLEAN)).toEqual({ released: true });
  passTime(LEASE_MS + 1);
  await runDurableObjectAlarm(card.stub);
  expect(await slotsOf(card.stub)).toEqual({ leased: 0, draining: 1 });
});

test("a renewal restores a reaped lease while it drains, and is refused after that", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const { number } = await claim(stub, attempt);
  passTime(LEASE_MS + 1);
  await runDurableObjectAlarm(stub);
  expect(await stub.renew(number, attempt.attempt)).toMatchObject({ renewed: true });
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  passTime(LEASE_MS + 1);
  await runDurableObjectAlarm(stub);
  // The drain time counts from the last renewal.
  passTime(DRAIN_MS - LEASE_MS);
  await runDurableObjectAlarm(stub);
  expect(await stub.renew(number, attempt.attempt)).toEqual({ renewed: false, why: "unknown" });
  expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: false, why: "late" });
  expect((await stub.status()).counters).toMatchObject({ late: 1 });
});

test("a lease found long after its expiry gets one more renewal interval, only once", async () => {
  const drain = { probe: null, maxMs: 300_000 };
  const { stub } = await makeCard("s", { listings: [listing("s", { drain })] });
  await claim(stub, attemptAt("s"));
  passTime(LEASE_MS + 20_000);
  await runDurableObjectAlarm(stub);
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  passTime(10_001);
  await runDurableObjectAlarm(stub);
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
});

/** A card with two slots, both draining after unclean releases. */
async function twoDraining(): Promise<CardUnderTest> {
  const probe = { path: "/running", busy: "/running" };
  const card = await makeCard("s", { listings: [listing("s", { drain: { probe, maxMs: DRAIN_MS } }), listing("t")] });
  for (let i = 0; i < 2; i++) await run(card.stub, attemptAt("s"), UNCLEAN);
  return card;
}

const beat = (running: number | null) => ({ gpuMemoryRatio: 0.5, gpuUtilization: 1, running });

test("from the second heartbeat on, no more slots drain than the card reports as running", async () => {
  runsAtOrigin(2);
  const { stub } = await twoDraining();
  await stub.heartbeat(beat(0));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 2 });
  await stub.heartbeat(beat(null));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 2 });
  await stub.heartbeat(beat(1));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
  await stub.heartbeat(beat(1));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
  await stub.heartbeat(beat(0));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
  expect(await stub.status()).toMatchObject({ heartbeat: { running: 0 }, counters: { drained: 2 } });
});

test("a heartbeat never frees a leased slot", async () => {
  const { stub } = await makeCard("s");
  await claim(stub, attemptAt("s"));
  for (let i = 0; i < 5; i++) await stub.heartbeat(beat(0));
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
});

/** Makes every origin report this number of running requests. */
function runsAtOrigin(running: number) {
  const asked = vi.spyOn(globalThis, "fetch").mockImplementation(async () => Response.json({ running }));
  onTestFinished(() => asked.mockRestore());
  return asked;
}

test("a probe of the origin ends the drain, and probing continues after a crash of the Card", async () => {
  const asked = runsAtOrigin(2);
  const card = await twoDraining();
  const { stub } = card;
  await vi.waitFor(() => expect(asked).toHaveBeenCalledTimes(2), 4_000);
  expect(asked.mock.calls[0]?.[0]).toBe("http://127.0.0.1:9/s/running");
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 2 });
  await crash(card);
  asked.mockImplementation(async () => Response.json({ running: 0 }));
  await expectSlots(card.stub, { leased: 0, draining: 0 });
});

test("the next call sets a Card's overdue or missing alarm again", async () => {
  const card = await makeCard("s", { slots: 3 });
  await claim(card.stub, attemptAt("s"));
  const alarm = () => runInDurableObject(card.stub, (_, { storage }) => storage.getAlarm());
  const first = await alarm();
  // The alarm is overdue now, but it is still set to the same time.
  passTime(60_000);
  await claim(card.stub, attemptAt("s"));
  expect(await alarm()).toBeGreaterThan(first ?? Infinity);
  await runInDurableObject(card.stub, (_, { storage }) => storage.deleteAlarm());
  await claim(card.stub, attemptAt("s"));
  expect(await alarm()).not.toBeNull();
});
