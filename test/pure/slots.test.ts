import * as fc from "fast-check";
import { expect, test } from "vitest";
import { LEASE_MS, LEASE_RENEW_MS } from "../../durable-objects/protocol.ts";
import { ENDED_MAX, type Lease, Slots } from "../../durable-objects/slots.ts";
import { expectSame, expectThat } from "./same.ts";
import { slotCalls } from "./slots-commands.ts";
import { attempt, CLEAN, held, lapse, SlotsModel, UNCLEAN } from "./slots-model.ts";

const HOUR_MS = 3_600_000;
const DRAIN_MS = 60_000;
const NOW = 1_000_000_000;

/** So many slots, all leased at `NOW` by attempts a1, a2 ... */
function leased(count: number, drainMs = DRAIN_MS): Slots {
  const slots = new Slots();
  for (let i = 1; i <= count; i++) slots.claim(attempt(`a${i}`), count, drainMs, NOW);
  return slots;
}

test("whatever is called in whatever order, the slots are as their rules say", () => {
  const calls = fc.commands(slotCalls, { maxCommands: 60, size: "max" });
  const property = fc.property(calls, fc.integer({ min: 1, max: 4 }), (commands, count) => {
    fc.modelRun(() => ({ model: new SlotsModel(count), real: new Slots() }), commands);
  });
  fc.assert(property, { numRuns: 2_000 });
});

type Step =
  | { call: "claim" | "vanish"; who: number }
  | { call: "renew" | "clean" | "unclean"; who: number; number: number | null }
  | { call: "reap" }
  | { call: "hear"; running: number }
  | { call: "clock"; ms: number };

const who = fc.integer({ min: 1, max: 8 });
/** Null: the attempt's own number. */
const someNumber = fc.option(fc.integer({ min: -1, max: 10 }), { freq: 3 });
const jump = fc.oneof(
  fc.integer({ min: 0, max: 20_000 }),
  fc.integer({ min: -HOUR_MS, max: HOUR_MS }),
  fc.constantFrom(-HOUR_MS, HOUR_MS),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ call: fc.constantFrom("claim", "claim", "vanish"), who }) },
  { weight: 4, arbitrary: fc.record({ call: fc.constantFrom("renew", "clean", "unclean"), who, number: someNumber }) },
  { weight: 2, arbitrary: fc.record({ call: fc.constant("reap") }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("hear"), running: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ call: fc.constant("clock"), ms: jump }) },
);
const steps = fc.array(step, { maxLength: 60, size: "max" });
const COUNT = 2;

/** A card as its shell runs it: a clock that may jump, and every changed lease kept. */
class Ran {
  now = NOW;
  slots = new Slots();
  readonly kept = new Map<number, string>();
  readonly numberOf = new Map<string, number>();

  /** Does a step; gives what its caller is told. */
  do(step: Step): unknown {
    if (step.call === "clock") return void (this.now += step.ms);
    if (step.call === "reap") return this.#keep(this.slots.reap(this.now).changed);
    if (step.call === "hear") return this.#keep(this.slots.hear(step.running, null));
    const name = `attempt ${step.who}`;
    if (step.call === "claim") {
      const outcome = this.slots.claim(attempt(name), COUNT, DRAIN_MS, this.now);
      if ("no" in outcome) return outcome;
      if (!this.numberOf.has(name)) this.numberOf.set(name, outcome.lease.number);
      this.#keep(outcome.changed);
      return outcome.lease.number;
    }
    const own = this.numberOf.get(name) ?? 0;
    if (step.call === "vanish") return this.#keep(this.slots.vanish(own, this.now));
    const number = step.number ?? own;
    const done =
      step.call === "renew"
        ? this.slots.renew(number, name, this.now)
        : this.slots.release(number, name, step.call === "clean" ? CLEAN : UNCLEAN, this.now);
    this.#keep(done.changed);
    return done.reply;
  }

  restart(): void {
    this.slots = new Slots([...this.kept.values()].map((lease): Lease => JSON.parse(lease)));
  }

  #keep(changed: Lease[]): string[] {
    for (const lease of changed) this.kept.set(lease.number, JSON.stringify(lease));
    for (const number of this.slots.forget()) this.kept.delete(number);
    return changed.map((lease) => JSON.stringify(lease));
  }
}

/** Runs steps with a look at every one of them. */
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

test("lease numbers only grow, one attempt has one number in its life, also over restarts", () => {
  always((ran, step, _, reply) => {
    const known = new Set(ran.numberOf.values());
    expectSame(known.size, ran.numberOf.size);
    if (step.call === "claim" && typeof reply === "number") expectSame(reply, ran.numberOf.get(`attempt ${step.who}`));
    expectSame(ran.slots.lastNumber, Math.max(0, ...known));
    ran.restart();
    expectSame(ran.slots.lastNumber, Math.max(0, ...known));
  });
});

test("a stale number or a foreign attempt changes nothing and is told so", () => {
  always((ran, step, before, reply) => {
    if (step.call !== "renew" && step.call !== "clean" && step.call !== "unclean") return;
    if (step.number === null || step.number === ran.numberOf.get(`attempt ${step.who}`)) return;
    const told = reply as { renewed?: boolean; released?: boolean };
    expectSame(step.call === "renew" ? told.renewed : told.released, false);
    expectSame(JSON.stringify(ran.slots.held), before);
  });
});

test("a card that restarts between any two calls answers as one that never did", () => {
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

test("every lease ends within its life, one grace and its longest drain when nobody renews it", () => {
  const property = fc.property(steps, (list) => {
    const ran = new Ran();
    for (const one of list) ran.do(one);
    // What the alarm does at the latest: it looks once, and from then on when it is due.
    ran.slots.reap(ran.now);
    lapse(ran.slots, ran.now, LEASE_MS + LEASE_RENEW_MS + DRAIN_MS);
    expect(held(ran.slots)).toEqual([]);
  });
  fc.assert(property, { numRuns: 2_000 });
});

test("after a look nothing is due any more: an alarm never comes twice for the same", () => {
  always((ran) => {
    ran.slots.reap(ran.now);
    expectThat((ran.slots.nextAt() ?? Infinity) > ran.now, "it is due already");
  });
});

test("no jump of the clock by an hour, forth or back, takes a slot from those who renew", () => {
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

test("a lease found long past its life gets one more interval, and only one", () => {
  const slots = leased(1, 1_000);
  const late = NOW + LEASE_MS + 16_000;
  expect(slots.reap(late)).toMatchObject({ reaped: 0 });
  expect(slots.reap(late + LEASE_RENEW_MS - 1)).toMatchObject({ reaped: 0 });
  expect(slots.reap(late + LEASE_RENEW_MS + HOUR_MS)).toMatchObject({ reaped: 1, drained: 1 });
});

test("a clean release frees the slot at once", () => {
  const slots = leased(2);
  expect(slots.claim(attempt("waiter"), 2, DRAIN_MS, NOW)).toEqual({ no: "full" });
  expect(slots.release(1, "a1", CLEAN, NOW).reply).toEqual({ released: true });
  expect(slots.claim(attempt("waiter"), 2, DRAIN_MS, NOW)).toMatchObject({ fresh: true, lease: { number: 3 } });
});

test("an unclean end keeps the slot until it has drained its time, counted from that end", () => {
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

test("a holder that turns out to live has its slot back, by renewing or by claiming again", () => {
  for (const back of ["renew", "claim"] as const) {
    const slots = leased(1, 1_000);
    slots.vanish(1, NOW + 500);
    if (back === "renew") expect(slots.renew(1, "a1", NOW + 600).reply).toMatchObject({ renewed: true });
    else expect(slots.claim(attempt("a1"), 1, 1_000, NOW + 600)).toMatchObject({ fresh: false, lease: { number: 1 } });
    lapse(slots, NOW + 600, LEASE_MS - 1);
    expect(held(slots), back).toEqual(["1 a1 leased"]);
  }
});

test("the reply of a claim is lost a thousand times: one slot is held, none leaks", () => {
  const slots = new Slots();
  for (let i = 1; i <= 1_000; i++) {
    const asked = attempt(`a${i}`);
    for (let tries = 0; tries < 3; tries++) {
      expect(slots.claim(asked, 2, DRAIN_MS, NOW)).toMatchObject({ lease: { number: i } });
      // The platform lets go of the handle in a lost reply.
      slots.vanish(i, NOW);
    }
    expect(slots.claim(asked, 2, DRAIN_MS, NOW)).toMatchObject({ lease: { number: i, state: "leased" } });
    expect(slots.held).toHaveLength(1);
    expect(slots.release(i, `a${i}`, CLEAN, NOW).reply).toEqual({ released: true });
  }
  expect(slots.held).toEqual([]);
});

test("reports free a draining slot from the second on, and never more than the card has too many", () => {
  const property = fc.property(
    fc.nat({ max: 4 }),
    fc.nat({ max: 4 }),
    fc.array(fc.nat({ max: 8 }), { maxLength: 5 }),
    (leases, drains, runs) => {
      const slots = leased(leases + drains);
      for (let i = 1; i <= drains; i++) slots.release(i, `a${i}`, UNCLEAN, NOW);
      let left = drains;
      for (const [i, running] of runs.entries()) {
        const freed = slots.hear(running, null).filter((lease) => lease.state === "ended").length;
        expect(freed).toBe(i === 0 ? 0 : Math.max(0, left - running));
        left -= freed;
        expect(slots.held).toHaveLength(leases + left);
      }
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});

test("reports begin anew when a holder comes back and ends uncleanly again", () => {
  const slots = leased(1);
  slots.vanish(1, NOW);
  slots.hear(0, null);
  slots.renew(1, "a1", NOW);
  slots.release(1, "a1", UNCLEAN, NOW);
  slots.hear(0, null);
  expect(held(slots)).toEqual(["1 a1 draining"]);
  slots.hear(0, null);
  expect(held(slots)).toEqual([]);
});

test("a report of one service's origin says nothing of another's slots", () => {
  const slots = new Slots();
  slots.claim(attempt("picture", "portrait"), 2, DRAIN_MS, NOW);
  slots.claim(attempt("sound", "speech"), 2, DRAIN_MS, NOW);
  slots.release(1, "picture", UNCLEAN, NOW);
  slots.release(2, "sound", UNCLEAN, NOW);
  for (let i = 0; i < 3; i++) slots.hear(0, "speech");
  expect(held(slots)).toEqual(["1 picture draining"]);
});

test("what ended is remembered for a while, and numbers grow on when it is forgotten", () => {
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

test("the highest number is never forgotten, even when all others outlive it", () => {
  const kept = Array.from({ length: ENDED_MAX + 50 }, (_, i): Lease => {
    const slots = new Slots();
    const outcome = slots.claim(attempt(`a${i}`), 1, DRAIN_MS, NOW);
    if ("no" in outcome) throw new Error(outcome.no);
    return { ...outcome.lease, number: i + 1, state: "ended" };
  });
  const slots = new Slots(kept.toReversed());
  const forgotten = slots.forget();
  expect(forgotten).toHaveLength(50);
  expect(forgotten).not.toContain(ENDED_MAX + 50);
  expect(slots.lastNumber).toBe(ENDED_MAX + 50);
});
