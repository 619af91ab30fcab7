/** fast-check steps for a pool and its cards, and what must be true of them at any time. */
import * as fc from "fast-check";
import type { Entry, Priority } from "../../durable-objects/pool-protocol.ts";
import type { TicketState } from "../../durable-objects/ticket-state.ts";
import type { SmallPool } from "./pool-in-small.ts";
import type { Fate } from "./post.ts";
import { expectThat } from "./same.ts";
import type { How } from "./small-caller.ts";
import { SERVICE, type SmallCard } from "./small-card.ts";

export type Step =
  | { come: number; priority: Priority; same: number | null }
  | { deliver: number; fate: Fate; times: number }
  | { end: number; how: How }
  | { leave: number }
  | { rest: number }
  | { steal: number }
  | { giveBack: number }
  | { pass: number }
  | { jump: number }
  | { restart: true };

const pick = fc.nat({ max: 50 });
const HOUR_MS = 3_600_000;
/** Cards are asked again this often while a request waits. */
const ASKED_MS = 5_000;
/** Clock jumps up to this size do not affect a lease. */
const TREMBLE_MS = 1_000;

const common = [
  {
    weight: 5,
    arbitrary: fc.record({
      come: fc.nat({ max: 2 }),
      priority: fc.constantFrom<Priority>("normal", "normal", "high", "low"),
      same: fc.constantFrom<number | null>(null, 0, 1),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      deliver: pick,
      fate: fc.constantFrom<Fate>("arrives", "arrives", "doubled"),
      times: fc.integer({ min: 1, max: 9 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      end: pick,
      how: fc.constantFrom<How>("ok", "ok", "ok", "failed", "cut", "quiet", "vanish"),
    }),
  },
  { weight: 1, arbitrary: fc.record({ leave: pick }) },
  { weight: 1, arbitrary: fc.record({ rest: pick }) },
  { weight: 1, arbitrary: fc.record({ steal: pick }) },
  { weight: 1, arbitrary: fc.record({ giveBack: pick }) },
  { weight: 2, arbitrary: fc.record({ pass: fc.constantFrom(1, 50, 250, 1_000, 5_000, 6_000) }) },
] satisfies fc.WeightedArbitrary<Step>[];
const accidents = [
  { weight: 2, arbitrary: fc.record({ deliver: pick, fate: fc.constant<Fate>("lost"), times: fc.constant(1) }) },
  { weight: 1, arbitrary: fc.record({ jump: fc.constantFrom(-HOUR_MS, -500, 500, HOUR_MS) }) },
  { weight: 1, arbitrary: fc.record({ restart: fc.constant(true as const) }) },
] satisfies fc.WeightedArbitrary<Step>[];

const many = { maxLength: 100, size: "max" } as const;
/** Late, reordered and duplicated messages, failures, callers that leave. */
export const steps: fc.Arbitrary<Step[]> = fc.array(fc.oneof(...common), many);
/** The same with lost messages, clocks that jump, and a Pool that restarts. */
export const accidentalSteps: fc.Arbitrary<Step[]> = fc.array(fc.oneof(...common, ...accidents), many);
export const sizes = fc.record({
  cards: fc.integer({ min: 1, max: 4 }),
  slots: fc.integer({ min: 1, max: 3 }),
  concurrent: fc.integer({ min: 1, max: 5 }),
});

export function chosen<T>(list: readonly T[], index: number): T | undefined {
  return list[index % Math.max(1, list.length)];
}

/** Executes the steps one by one and checks everything after each. */
export function play(pool: SmallPool, list: Step[], each: () => void = () => undefined): void {
  for (const [i, step] of list.entries()) {
    take(pool, step, `request ${i}`);
    for (const card of pool.cards) expectSound(card);
    each();
  }
}

function take(pool: SmallPool, step: Step, name: string): void {
  if ("come" in step) {
    const more: Partial<Entry> = {
      concurrent: Math.max(1, pool.sizes.concurrent - step.come),
      priority: step.priority,
      fingerprint: step.same === null ? null : `same ${step.same}`,
    };
    pool.come(name, `tenant ${step.come}`, more);
  } else if ("deliver" in step) {
    for (let i = 0; i < step.times; i++) pool.post.deliver(step.deliver * (i + 1), step.fate);
  } else if ("end" in step) {
    // As with a jump: a silent end counts from the last renewal, by whatever clock that was.
    const how = step.how === "vanish" && pool.hasJumped ? "quiet" : step.how;
    chosen(pool.running, step.end)?.end(how);
  } else if ("leave" in step) chosen(pool.open, step.leave)?.leave();
  else if ("giveBack" in step) pool.giveBack(step.giveBack);
  else if ("pass" in step) pool.clock.pass(step.pass);
  else if ("restart" in step) pool.restart();
  else if ("jump" in step) {
    // A lease does not survive two jumps within one renewal.
    if (step.jump > TREMBLE_MS && pool.hasJumped) return;
    // A card cannot tell a clock jump from time that passed, so abandoned runs have ended by then.
    if (step.jump > TREMBLE_MS) {
      pool.hasJumped = true;
      pool.post.settle();
      for (const card of pool.cards) pool.rest(card);
    }
    pool.clock.jump(step.jump);
  } else {
    const card = chosen(pool.cards, "rest" in step ? step.rest : step.steal);
    if (card === undefined) return;
    if ("rest" in step) pool.rest(card);
    else pool.steal(card, `speech of ${name}`);
  }
}

/** Checks that the GPU stays within its slots and that the counters add up. */
export function expectSound({ name, book, slots, highest }: SmallCard): void {
  const { claims, done, failed, orphaned } = book.counters;
  const leased = book.leases.filter((lease) => lease.state === "leased").length;
  expectThat(highest <= slots, `${name} ran ${highest} on ${slots} slots`);
  expectThat(book.leases.length <= slots, `${name} holds ${book.leases.length} of ${slots}`);
  const sum = done + failed + orphaned + leased;
  expectThat(
    claims === sum,
    `${claims} claims are ${done} done, ${failed} failed, ${orphaned} orphaned, ${leased} leased`,
  );
}

/** Waiting requests for which a slot is free, according to the cards themselves. */
export function idle(pool: SmallPool): string[] {
  const now = pool.clock.now();
  const inService = pool.cards.flatMap(({ book }) => book.leases).filter((lease) => lease.service === SERVICE);
  const free = pool.cards.filter(({ book, slots }) => {
    const gate = book.report(0, 0, now).gates[SERVICE];
    // The end of a card's limit on concurrent runs is noticed only when the card is asked again.
    const { most } = book.report(0, 0, now - ASKED_MS).gates[SERVICE] ?? {};
    const running = book.leases.filter((lease) => lease.service === SERVICE && lease.state === "leased").length;
    const takesWork = gate?.state === "half_open" || (gate?.state === "closed" && running < (most ?? slots));
    return takesWork && book.leases.length < slots;
  });
  const busy = new Set(pool.running.map(({ entry }) => entry.fingerprint));
  const couldStart = ({ phase, entry }: TicketState): boolean =>
    phase === "waiting" &&
    (entry.fingerprint === null || (!busy.has(entry.fingerprint) && !pool.isLastChance(entry))) &&
    inService.filter(({ tenant }) => tenant === entry.tenant).length < entry.concurrent &&
    free.some(({ name }) => !entry.avoid.includes(name));
  return [...pool.desk.tickets].filter(couldStart).map(({ entry }) => `${entry.attempt} could start`);
}

/** Lets all runs succeed and delivers everything, until nothing is left. */
export function wind(pool: SmallPool): void {
  while (pool.others.length > 0) pool.giveBack(0);
  const rounds = 2 * pool.callers.length + 10;
  for (let round = 0; round < rounds && pool.open.length > 0; round++) {
    for (const card of pool.cards) pool.rest(card);
    pool.settle();
    for (const caller of pool.running) caller.end("ok");
    pool.settle(round % 4 === 3 ? 6_000 : 300);
  }
  pool.settle();
  for (const card of pool.cards) pool.rest(card);
  pool.settle(6_000);
}
