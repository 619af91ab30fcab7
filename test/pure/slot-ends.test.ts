/** How single leases end, come back and are forgotten. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { LEASE_MS, LEASE_RENEW_MS } from "../../durable-objects/card-protocol.ts";
import { ENDED_MAX, type Lease, Slots } from "../../durable-objects/slots.ts";
import { attempt, CLEAN, held, lapse, UNCLEAN } from "./slots-model.ts";
import { COUNT, DRAIN_MS, HOUR_MS, leased, NOW, Ran } from "./slots-run.ts";

test("a lease found long past its life gets one more renewal interval, and only one", () => {
  const slots = leased(1, 1_000);
  const late = NOW + LEASE_MS + 16_000;
  expect(slots.reap(late)).toMatchObject({ reaped: 0 });
  expect(slots.reap(late + LEASE_RENEW_MS - 1)).toMatchObject({ reaped: 0 });
  expect(slots.reap(late + LEASE_RENEW_MS + HOUR_MS)).toMatchObject({ reaped: 1 });
});

test("after a clock jump, a holder whose renewal is slightly late still has its slot", () => {
  for (const drainMs of [1_000, DRAIN_MS]) {
    const slots = leased(1, drainMs);
    const after = NOW + HOUR_MS;
    expect(slots.reap(after)).toMatchObject({ reaped: 0 });
    expect(slots.reap(after + LEASE_RENEW_MS)).toMatchObject({ reaped: 1, drained: 0 });
    expect(slots.claim(attempt("next"), 1, drainMs, after + LEASE_RENEW_MS)).toEqual({ no: "full" });
    expect(slots.renew(1, "a1", after + LEASE_RENEW_MS + 50).reply).toMatchObject({ renewed: true });
  }
  const slots = leased(1);
  const reaped = NOW + HOUR_MS + LEASE_RENEW_MS;
  for (const at of [NOW + HOUR_MS, reaped]) slots.reap(at);
  expect(slots.reap(reaped + DRAIN_MS - 1)).toMatchObject({ drained: 0 });
  expect(slots.reap(reaped + DRAIN_MS)).toMatchObject({ drained: 1 });
});

test("a clock jump frees no draining slot before its full drain time", () => {
  const slots = leased(1);
  slots.release(1, "a1", UNCLEAN, NOW);
  const after = NOW + HOUR_MS;
  expect(slots.reap(after)).toMatchObject({ drained: 0 });
  expect(slots.claim(attempt("next"), 1, DRAIN_MS, after)).toEqual({ no: "full" });
  expect(slots.reap(after + DRAIN_MS - 1)).toMatchObject({ drained: 0 });
  // Only once: a second late look does free it.
  expect(slots.reap(after + DRAIN_MS + HOUR_MS)).toMatchObject({ drained: 1 });
});

test("a holder that vanishes after its drain time is not taken for a clock jump: the next look frees its slot", () => {
  const slots = leased(1, 1_000);
  const late = NOW + LEASE_MS - 1;
  slots.vanish(1, late);
  expect(slots.nextAt()).toBe(late);
  expect(slots.reap(late)).toMatchObject({ drained: 1 });
});

test("unclaim frees a leased slot, does nothing after a release, and bars an attempt that has not claimed yet", () => {
  const slots = leased(2);
  expect(slots.unclaim("a1")).toMatchObject([{ number: 1, state: "ended" }]);
  expect(slots.unclaim("a1")).toEqual([]);
  slots.release(2, "a2", UNCLEAN, NOW);
  expect(slots.unclaim("a2")).toEqual([]);
  expect(held(slots)).toEqual(["2 a2 draining"]);
  expect(slots.unclaim("a3")).toEqual([]);
  expect(slots.claim(attempt("a3"), 2, DRAIN_MS, NOW)).toEqual({ no: "ended" });
});

test("a clean release frees the slot at once", () => {
  const slots = leased(2);
  expect(slots.claim(attempt("waiter"), 2, DRAIN_MS, NOW)).toEqual({ no: "full" });
  expect(slots.release(1, "a1", CLEAN, NOW).reply).toEqual({ released: true });
  expect(slots.claim(attempt("waiter"), 2, DRAIN_MS, NOW)).toMatchObject({ fresh: true, lease: { number: 3 } });
});

test("an unclean end keeps the slot for its drain time, counted from that end", () => {
  const slots = leased(1);
  slots.release(1, "a1", UNCLEAN, NOW + 5_000);
  expect(lapse(slots, NOW + 5_000, DRAIN_MS - 1)).toEqual([]);
  expect(slots.claim(attempt("next"), 1, DRAIN_MS, NOW + 5_000 + DRAIN_MS - 1)).toEqual({ no: "full" });
  lapse(slots, NOW + 5_000 + DRAIN_MS - 1, 1);
  expect(held(slots)).toEqual([]);
});

test("a vanished holder's slot drains from its last renewal", () => {
  const slots = leased(1);
  slots.renew(1, "a1", NOW + 10_000);
  slots.vanish(1, NOW + 19_000);
  lapse(slots, NOW + 19_000, DRAIN_MS - 9_001);
  expect(held(slots)).toEqual(["1 a1 draining"]);
  lapse(slots, NOW + 9_999 + DRAIN_MS, 1);
  expect(held(slots)).toEqual([]);
});

test("a holder that vanished gets its slot back by renewing or by claiming again", () => {
  for (const back of ["renew", "claim"] as const) {
    const slots = leased(1, 1_000);
    slots.vanish(1, NOW + 500);
    if (back === "renew") expect(slots.renew(1, "a1", NOW + 600).reply).toMatchObject({ renewed: true });
    else expect(slots.claim(attempt("a1"), 1, 1_000, NOW + 600)).toMatchObject({ fresh: false, lease: { number: 1 } });
    lapse(slots, NOW + 600, LEASE_MS - 1);
    expect(held(slots), back).toEqual(["1 a1 leased"]);
  }
});

test("a thousand attempts with lost claim replies hold one slot at a time, and none leaks", () => {
  const slots = new Slots();
  for (let i = 1; i <= 1_000; i++) {
    const asked = attempt(`a${i}`);
    for (let tries = 0; tries < 3; tries++) {
      expect(slots.claim(asked, 2, DRAIN_MS, NOW)).toMatchObject({ lease: { number: i } });
      // The platform disposes the handle in a lost reply.
      slots.vanish(i, NOW);
    }
    expect(slots.claim(asked, 2, DRAIN_MS, NOW)).toMatchObject({ lease: { number: i, state: "leased" } });
    expect(slots.held).toHaveLength(1);
    expect(slots.release(i, `a${i}`, CLEAN, NOW).reply).toEqual({ released: true });
  }
  expect(slots.held).toEqual([]);
});

test("reports free draining slots from the second report on, and never more than the surplus", () => {
  const property = fc.property(
    fc.nat({ max: 4 }),
    fc.nat({ max: 4 }),
    fc.array(fc.nat({ max: 8 }), { maxLength: 5 }),
    (leases, drains, runs) => {
      const slots = leased(leases + drains);
      for (let i = 1; i <= drains; i++) slots.release(i, `a${i}`, UNCLEAN, NOW);
      let left = drains;
      for (const [i, running] of runs.entries()) {
        const freed = slots.applyReport(running, null).filter((lease) => lease.state === "ended").length;
        expect(freed).toBe(i === 0 ? 0 : Math.max(0, left - running));
        left -= freed;
        expect(slots.held).toHaveLength(leases + left);
      }
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});

test("reports are counted from zero when a holder comes back and ends uncleanly again", () => {
  const slots = leased(1);
  slots.vanish(1, NOW);
  slots.applyReport(0, null);
  slots.renew(1, "a1", NOW);
  slots.release(1, "a1", UNCLEAN, NOW);
  slots.applyReport(0, null);
  expect(held(slots)).toEqual(["1 a1 draining"]);
  slots.applyReport(0, null);
  expect(held(slots)).toEqual([]);
});

test("a report of one service's origin does not affect another's slots", () => {
  const slots = new Slots();
  slots.claim(attempt("picture", "portrait"), 2, DRAIN_MS, NOW);
  slots.claim(attempt("sound", "speech"), 2, DRAIN_MS, NOW);
  slots.release(1, "picture", UNCLEAN, NOW);
  slots.release(2, "sound", UNCLEAN, NOW);
  for (let i = 0; i < 3; i++) slots.applyReport(0, "speech");
  expect(held(slots)).toEqual(["1 picture draining"]);
});

test("ended leases are remembered for a while, and numbers keep growing after they are forgotten", () => {
  const ran = new Ran();
  const most = 3 * ENDED_MAX;
  for (let i = 1; i <= most; i++) {
    ran.do({ call: "claim", who: i });
    ran.do({ call: "clean", who: i, number: null });
    expect(ran.kept.size).toBeLessThanOrEqual(ENDED_MAX + 1);
  }
  ran.restart();
  expect(ran.slots.claim(attempt(`attempt ${most - ENDED_MAX + 1}`), COUNT, DRAIN_MS, NOW)).toEqual({ no: "ended" });
  expect(ran.slots.claim(attempt("new"), COUNT, DRAIN_MS, NOW)).toMatchObject({ lease: { number: most + 1 } });
});

test("the highest number is never forgotten, even when all other leases end after it", () => {
  const most = ENDED_MAX + 50;
  const slots = leased(most);
  const kept = new Map(slots.held.map((lease): [number, Lease] => [lease.number, lease]));
  for (const lease of slots.held.toReversed()) {
    slots.release(lease.number, lease.attempt, CLEAN, NOW);
    for (const forgotten of slots.forget()) kept.delete(forgotten);
  }
  expect(kept.size).toBe(ENDED_MAX);
  expect(new Slots([...kept.values()]).lastNumber).toBe(most);
});
