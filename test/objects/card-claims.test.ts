import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { LEASE_RENEW_MS } from "../../durable-objects/card-protocol.ts";
import { Lease } from "../../worker/run/lease.ts";
import {
  attemptAt,
  claim,
  CLEAN,
  eventually,
  expectSlots,
  FAILED,
  gateOf,
  listing,
  makeCard,
  passTime,
  reconfigure,
  slotsOf,
  UNCLEAN,
} from "./objects.ts";

test("A card never runs more requests than it has slots. Only the Card grants slots; every other count is advisory.", async () => {
  const { stub } = await makeCard("s");
  const replies = await Promise.all(Array.from({ length: 300 }, () => stub.claim(attemptAt("s"))));
  const granted = replies.filter((reply) => !("no" in reply));
  expect(granted).toHaveLength(2);
  expect(replies.filter((reply) => "no" in reply && reply.no === "full")).toHaveLength(298);
  expect(await slotsOf(stub)).toEqual({ leased: 2, draining: 0 });
  expect((await stub.status()).counters).toMatchObject({ claims: 2, refused: 298 });
});

test("the Card does not grant a draining slot", async () => {
  const { stub } = await makeCard("s", { slots: 1 });
  const granted = await claim(stub, attemptAt("s"));
  await granted.lease.release(UNCLEAN);
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
  expect(await stub.claim(attemptAt("s"))).toEqual({ no: "full" });
});

test("a holder renews and releases its lease through its stub", async () => {
  const { stub } = await makeCard("s");
  passTime(0);
  const granted = await claim(stub, attemptAt("s"));
  expect(granted).toMatchObject({ number: 1, origin: "http://127.0.0.1:9/s", transport: "direct" });
  passTime(10_000);
  expect(await granted.lease.renew()).toEqual({ renewed: true, expiresAt: granted.expiresAt + 10_000 });
  expect(await granted.lease.release(CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
  expect(await granted.lease.renew()).toEqual({ renewed: false, why: "unknown" });
});

test("a lease can be renewed and released by number and attempt id, without its stub", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  passTime(0);
  const { number, expiresAt } = await claim(stub, attempt);
  passTime(10_000);
  expect(await stub.renew(number, attempt.attempt)).toEqual({ renewed: true, expiresAt: expiresAt + 10_000 });
  expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
});

test("Every object method is idempotent per attempt id: calling it twice with the same id has the effect of one call.", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const [first, second] = await Promise.all([claim(stub, attempt), claim(stub, attempt)]);
  expect(second.number).toBe(first.number);
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  expect((await stub.status()).counters.claims).toBe(1);
  const failed = { ...FAILED, clean: false };
  expect(await first.lease.release(failed)).toEqual({ released: true });
  expect(await second.lease.release(failed)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 1 });
  expect((await stub.status()).counters).toMatchObject({ claims: 1, done: 0, failed: 1, orphaned: 0 });
  expect(await stub.release(first.number, attempt.attempt, CLEAN)).toEqual({ released: true });
  expect(await stub.release(first.number, attempt.attempt, CLEAN)).toEqual({ released: false, why: "late" });
  expect(await stub.claim(attempt)).toEqual({ no: "ended" });
});

test("a failed run whose release is repeated counts as one failure", async () => {
  const { stub } = await makeCard("s", {
    listings: [listing("s", { breaker: { maxFails: 2, failTimeoutMs: 30_000 } })],
  });
  const attempt = attemptAt("s");
  const { number } = await claim(stub, attempt);
  for (let i = 0; i < 5; i++) await stub.release(number, attempt.attempt, { ...FAILED, clean: false });
  expect(await gateOf(stub, "s")).toMatchObject({ state: "closed" });
});

test("a claim repeated because its reply was lost keeps its slot when the lost reply's stub is disposed", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const lost = await claim(stub, attempt);
  const kept = await claim(stub, attempt);
  lost.lease[Symbol.dispose]();
  await stub.report();
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  kept.lease[Symbol.dispose]();
  await expectSlots(stub, { leased: 0, draining: 1 });
});

test("a claim repeated after the lost reply's stub was disposed gets the same lease", async () => {
  const { stub } = await makeCard("s");
  const attempt = attemptAt("s");
  const lost = await claim(stub, attempt);
  lost.lease[Symbol.dispose]();
  await expectSlots(stub, { leased: 0, draining: 1 });
  const kept = await claim(stub, attempt);
  expect(kept.number).toBe(lost.number);
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
  expect(await kept.lease.release(CLEAN)).toEqual({ released: true });
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
});

test("three hundred claims whose first replies are lost occupy no slot afterwards", async () => {
  const lanes = 10;
  const { stub } = await makeCard("s", { slots: lanes });
  const lane = async () => {
    for (let i = 0; i < 300 / lanes; i++) {
      const attempt = attemptAt("s");
      const [lost, kept] = await Promise.all([claim(stub, attempt), claim(stub, attempt)]);
      lost.lease[Symbol.dispose]();
      expect(await kept.lease.release(CLEAN)).toEqual({ released: true });
      kept.lease[Symbol.dispose]();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  expect(await slotsOf(stub)).toEqual({ leased: 0, draining: 0 });
  expect(await stub.report()).toMatchObject({ lastNumber: 300 });
});

test("Lease numbers only grow. A stale release or renewal is refused, and a refused renewal aborts the origin call.", async () => {
  const { id, stub } = await makeCard("s");
  const [before, attempt] = [attemptAt("s"), attemptAt("s")];
  const ended = await claim(stub, before);
  await ended.lease.release(CLEAN);
  const { number, lease: handle } = await claim(stub, attempt);
  expect(number).toBeGreaterThan(ended.number);
  expect(await stub.renew(ended.number, before.attempt)).toEqual({ renewed: false, why: "unknown" });
  expect(await stub.release(ended.number, before.attempt, CLEAN)).toEqual({ released: false, why: "late" });
  expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });

  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  try {
    const held = new Lease(
      env,
      { card: id, number, attempt: attempt.attempt, origin: "", transport: "direct" },
      handle,
    );
    held.lost = vi.fn();
    vi.advanceTimersByTime(LEASE_RENEW_MS);
    await stub.report();
    expect(held.lost).not.toHaveBeenCalled();
    await stub.release(number, attempt.attempt, CLEAN);
    vi.advanceTimersByTime(LEASE_RENEW_MS);
    await eventually(async () => expect(held.lost).toHaveBeenCalledOnce());
  } finally {
    vi.useRealTimers();
  }
});

test.each([-1, 0, 0.5, 2 ** 53, Number.MAX_VALUE, Number.NaN])(
  "a forged lease number (%d) is refused and changes nothing",
  async (forged) => {
    const { stub } = await makeCard("s");
    const attempt = attemptAt("s");
    const { number } = await claim(stub, attempt);
    expect(await stub.renew(forged, attempt.attempt)).toEqual({ renewed: false, why: "unknown" });
    expect(await stub.release(forged, attempt.attempt, CLEAN)).toEqual({ released: false, why: "unknown" });
    expect(await slotsOf(stub)).toEqual({ leased: 1, draining: 0 });
    expect((await stub.status()).counters).toMatchObject({ stale: 2, done: 0, failed: 0 });
    expect(await stub.release(number, attempt.attempt, CLEAN)).toEqual({ released: true });
  },
);

test("a lease number used by another attempt is refused, and its holder keeps the lease", async () => {
  const { stub } = await makeCard("s");
  const [mine, foreign] = [attemptAt("s"), attemptAt("s")];
  const [own, other] = [await claim(stub, mine), await claim(stub, foreign)];
  expect(await stub.renew(own.number, foreign.attempt)).toEqual({ renewed: false, why: "stale" });
  expect(await stub.release(own.number, foreign.attempt, CLEAN)).toEqual({ released: false, why: "stale" });
  expect(await stub.release(other.number, "", CLEAN)).toEqual({ released: false, why: "stale" });
  expect(await slotsOf(stub)).toEqual({ leased: 2, draining: 0 });
});

test("the Card refuses a claim for a service that it is not listed in", async () => {
  const { stub } = await makeCard("s");
  expect(await stub.claim(attemptAt("another"))).toEqual({ no: "unlisted" });
  expect(await stub.listing("another")).toBeNull();
  expect(await stub.listing("s")).toEqual({ origin: "http://127.0.0.1:9/s", transport: "direct" });
  const nobody = env.CARD.getByName("card-that-nobody-configured");
  expect(await nobody.claim(attemptAt("s"))).toEqual({ no: "unlisted" });
});

test("a draining or disabled card refuses new claims, and its running request ends normally", async () => {
  const card = await makeCard("s");
  const { lease } = await claim(card.stub, attemptAt("s"));
  for (const state of ["draining", "disabled"] as const) {
    await reconfigure(card, { state });
    expect(await card.stub.claim(attemptAt("s"))).toEqual({ no: "withdrawn" });
  }
  expect(await lease.renew()).toMatchObject({ renewed: true });
  expect(await lease.release(CLEAN)).toEqual({ released: true });
  await reconfigure(card, { state: "active" });
  await claim(card.stub, attemptAt("s"));
});

test("an older or equal configuration is ignored", async () => {
  const card = await makeCard("s");
  await reconfigure(card, { slots: 3 });
  await card.stub.configure({ ...card.config, slots: 7 });
  await card.stub.configure({ ...card.config, version: 1, slots: 9 });
  expect(await card.stub.report()).toMatchObject({ version: 2, slots: 3 });
});

test("fewer slots take effect as leases end; more slots take effect at once", async () => {
  const card = await makeCard("s");
  const [first, second] = [await claim(card.stub, attemptAt("s")), await claim(card.stub, attemptAt("s"))];
  await reconfigure(card, { slots: 1 });
  expect(await second.lease.renew()).toMatchObject({ renewed: true });
  await first.lease.release(CLEAN);
  expect(await card.stub.claim(attemptAt("s"))).toEqual({ no: "full" });
  await second.lease.release(CLEAN);
  await claim(card.stub, attemptAt("s"));
  expect(await card.stub.claim(attemptAt("s"))).toEqual({ no: "full" });
  await reconfigure(card, { slots: 3 });
  await claim(card.stub, attemptAt("s"));
  await claim(card.stub, attemptAt("s"));
  expect(await card.stub.claim(attemptAt("s"))).toEqual({ no: "full" });
});
