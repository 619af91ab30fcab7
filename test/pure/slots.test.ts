import * as fc from "fast-check";
import { expect, test } from "vitest";
import { LEASE_MS, LEASE_RENEW_MS } from "../../durable-objects/card-protocol.ts";
import { Slots } from "../../durable-objects/slots.ts";
import { expectSame, expectThat } from "./same.ts";
import { slotCalls } from "./slots-commands.ts";
import { held, lapse, SlotsModel, UNCLEAN } from "./slots-model.ts";
import { COUNT, DRAIN_MS, HOUR_MS, leased, NOW, Ran, type Step, steps } from "./slots-run.ts";

test("for any sequence of calls, the slots are in the state that the model predicts", () => {
  const calls = fc.commands(slotCalls, { maxCommands: 60, size: "max" });
  const property = fc.property(calls, fc.integer({ min: 1, max: 4 }), (commands, count) => {
    fc.modelRun(() => ({ model: new SlotsModel(count), real: new Slots() }), commands);
  });
  fc.assert(property, { numRuns: 2_000 });
});

/** Runs random steps and checks after every step. */
function always(look: (ran: Ran, step: Step, before: string, reply: unknown) => void, numRuns = 2_000): void {
  const property = fc.property(steps, (list) => {
    const ran = new Ran();
    for (const one of list) {
      const before = JSON.stringify(ran.slots.held);
      look(ran, one, before, ran.do(one));
    }
  });
  fc.assert(property, { numRuns });
}

test("a card never holds more than its slots, whatever happens and however its clock jumps", () => {
  always((ran) => expectThat(ran.slots.held.length <= COUNT, `${ran.slots.held.length} are held`));
});

test("lease numbers only grow, and one attempt has one number for life, also over restarts", () => {
  always((ran, step, _, reply) => {
    const known = new Set(ran.numberOf.values());
    expectSame(known.size, ran.numberOf.size);
    if (step.call === "claim" && typeof reply === "number") expectSame(reply, ran.numberOf.get(`attempt ${step.who}`));
    expectSame(ran.slots.lastNumber, Math.max(0, ...known));
    ran.restart();
    expectSame(ran.slots.lastNumber, Math.max(0, ...known));
  });
});

test("a stale number or a foreign attempt changes nothing and gets a refusal", () => {
  always((ran, step, before, reply) => {
    if (step.call !== "renew" && step.call !== "clean" && step.call !== "unclean") return;
    if (step.number === null || step.number === ran.numberOf.get(`attempt ${step.who}`)) return;
    const told = reply as { renewed?: boolean; released?: boolean };
    expectSame(step.call === "renew" ? told.renewed : told.released, false);
    expectSame(JSON.stringify(ran.slots.held), before);
  });
});

test("a card that restarts between any two calls answers like one that never did", () => {
  const property = fc.property(steps, (list) => {
    const [steady, restarted] = [new Ran(), new Ran()];
    for (const one of list) {
      restarted.restart();
      expectSame(restarted.do(one), steady.do(one));
      expectSame(restarted.slots.held, steady.slots.held);
      expectSame(restarted.slots.nextAt(), steady.slots.nextAt());
    }
  });
  fc.assert(property, { numRuns: 1_500 });
});

test("without renewals every lease ends within its life, one grace interval and its longest drain", () => {
  const property = fc.property(steps, (list) => {
    const ran = new Ran();
    for (const one of list) ran.do(one);
    // As the alarm does: it looks once, and from then on when it is due.
    ran.slots.reap(ran.now);
    lapse(ran.slots, ran.now, LEASE_MS + LEASE_RENEW_MS + DRAIN_MS);
    expect(held(ran.slots)).toEqual([]);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("after a reap nothing is still due, so an alarm never fires twice for the same lease", () => {
  always((ran) => {
    ran.slots.reap(ran.now);
    expectThat((ran.slots.nextAt() ?? Infinity) > ran.now, "it is due already");
  });
});

test("no jump of the clock by an hour or a day takes a slot from holders that renew", () => {
  const renewed = fc.array(fc.integer({ min: 0, max: LEASE_RENEW_MS }), { minLength: 1, maxLength: 8 });
  const jumps = fc.array(fc.constantFrom(-HOUR_MS, HOUR_MS, -24 * HOUR_MS, 24 * HOUR_MS), { maxLength: 5 });
  const property = fc.property(renewed, jumps, (ages, list) => {
    const slots = leased(ages.length);
    for (const [i, age] of ages.entries()) slots.renew(i + 1, `a${i + 1}`, NOW - age);
    let now = NOW;
    for (const ms of list) {
      now += ms;
      for (let second = 0; second < LEASE_RENEW_MS / 1000; second++) {
        const { reaped, drained } = slots.reap(now + second * 1000);
        expectSame([reaped, drained], [0, 0]);
      }
      now += LEASE_RENEW_MS - 1;
      for (const i of ages.keys()) expect(slots.renew(i + 1, `a${i + 1}`, now).reply.renewed).toBe(true);
    }
    expect(slots.held.map((lease) => lease.state)).toEqual(ages.map(() => "leased"));
  });
  fc.assert(property, { numRuns: 500 });
});

test("a clock that steps back holds no slot for longer than a lease and its drain", () => {
  const slots = leased(3);
  slots.release(2, "a2", UNCLEAN, NOW);
  slots.vanish(3, NOW);
  slots.reap(NOW - HOUR_MS);
  lapse(slots, NOW - HOUR_MS, Math.max(LEASE_MS, DRAIN_MS));
  expect(held(slots)).toEqual([]);
});
