/** fast-check steps for a card's slots, under any calls at any time, and a runner that executes them. */
import * as fc from "fast-check";
import { type Lease, Slots } from "../../durable-objects/slots.ts";
import { attempt, CLEAN, UNCLEAN } from "./slots-model.ts";

export const HOUR_MS = 3_600_000;
export const DRAIN_MS = 60_000;
export const NOW = 1_000_000_000;

/** `count` slots, all leased at `NOW` by attempts a1, a2 ... */
export function leased(count: number, drainMs = DRAIN_MS): Slots {
  const slots = new Slots();
  for (let i = 1; i <= count; i++) slots.claim(attempt(`a${i}`), count, drainMs, NOW);
  return slots;
}

export type Step =
  | { call: "claim" | "vanish"; who: number }
  | { call: "renew" | "clean" | "unclean"; who: number; number: number | null }
  | { call: "reap" }
  | { call: "hear"; running: number }
  | { call: "clock"; ms: number };

const who = fc.integer({ min: 1, max: 8 });
/** Null means the attempt's own number. */
const someNumber = fc.option(fc.integer({ min: -1, max: 10 }), { freq: 3 });
const jump = fc.oneof(
  fc.integer({ min: 0, max: 20_000 }),
  fc.integer({ min: -HOUR_MS, max: HOUR_MS }),
  fc.constantFrom(-HOUR_MS, HOUR_MS),
);
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ call: fc.constantFrom("claim", "claim", "vanish"), who }) },
  { weight: 4, arbitrary: fc.record({ call: fc.constantFrom("renew", "clean", "unclean"), who, number: someNumber }) },
  { weight: 2, arbitrary: fc.record({ call: fc.constant("reap") }) },
  { weight: 1, arbitrary: fc.record({ call: fc.constant("hear"), running: fc.integer({ min: 0, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ call: fc.constant("clock"), ms: jump }) },
);
export const steps = fc.array(anyStep, { maxLength: 60, size: "max" });
/** Number of slots of the card. */
export const COUNT = 2;

/** Runs a card's slots like the Card object: a clock that may jump, and every changed lease is stored. */
export class Ran {
  now = NOW;
  slots = new Slots();
  readonly kept = new Map<number, string>();
  readonly numberOf = new Map<string, number>();

  /** Executes a step. Returns the reply to its caller. */
  do(step: Step): unknown {
    if (step.call === "clock") return void (this.now += step.ms);
    if (step.call === "reap") return this.#keep(this.slots.reap(this.now).changed);
    if (step.call === "hear") return this.#keep(this.slots.applyReport(step.running, null));
    const name = `attempt ${step.who}`;
    if (step.call === "claim") {
      const outcome = this.slots.claim(attempt(name), COUNT, DRAIN_MS, this.now);
      if ("no" in outcome) return outcome;
      if (!this.numberOf.has(name)) this.numberOf.set(name, outcome.lease.number);
      this.#keep(outcome.changed);
      return outcome.lease.number;
    }
    const own = this.numberOf.get(name) ?? 0;
    if (!("number" in step)) return this.#keep(this.slots.vanish(own, this.now));
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
