import * as fc from "fast-check";
import { expect, test } from "vitest";
import { SmallPool } from "./pool-in-small.ts";
import { expectThat } from "./same.ts";

type Step =
  | { enter: number }
  | { leave: number }
  | { end: number; clean: boolean }
  | { deliver: number }
  | { drain: number }
  | { steal: number };

const pick = fc.nat({ max: 50 });
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ enter: fc.nat({ max: 2 }) }) },
    { weight: 6, arbitrary: fc.record({ deliver: pick }) },
    { weight: 3, arbitrary: fc.record({ end: pick, clean: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ leave: pick }) },
    { weight: 1, arbitrary: fc.record({ drain: pick }) },
    { weight: 1, arbitrary: fc.record({ steal: pick }) },
  ) satisfies fc.Arbitrary<Step>,
  { maxLength: 120, size: "max" },
);
const sizes = fc.record({
  cards: fc.integer({ min: 1, max: 4 }),
  slots: fc.integer({ min: 1, max: 3 }),
  concurrent: fc.integer({ min: 1, max: 5 }),
});

/** The report of a run's end overtakes the report of its start and the word of its claim; then the report alone. */
const CLAIM_LAST: Step[] = [
  { deliver: 0 },
  { enter: 0 },
  { deliver: 0 },
  { end: 0, clean: true },
  { deliver: 2 },
  { enter: 0 },
];
const START_LAST: Step[] = [
  { deliver: 0 },
  { enter: 0 },
  { deliver: 0 },
  { enter: 0 },
  { deliver: 1 },
  { end: 0, clean: true },
  { deliver: 1 },
];
/** One card with one slot, of which a tenant may hold one. */
const LEAST = { cards: 1, slots: 1, concurrent: 1 };
const OVERTAKEN: [typeof LEAST, Step[]][] = [
  [LEAST, CLAIM_LAST],
  [LEAST, START_LAST],
];

function chosen<T>(list: T[], index: number): T | undefined {
  return list[index % Math.max(1, list.length)];
}

/** Plays the steps; gives everybody who came, and what the slots are that somebody else's service took meanwhile. */
function play(
  pool: SmallPool,
  list: Step[],
): { came: string[]; stolen: { card: number; name: string; number: number }[] } {
  const came: string[] = [];
  const stolen: { card: number; name: string; number: number }[] = [];
  for (const [i, step] of list.entries()) {
    if ("enter" in step) {
      came.push(`request ${i}`);
      pool.enter(`request ${i}`, `tenant ${step.enter}`);
    } else if ("leave" in step) {
      pool.leave(chosen(pool.room.entries(), step.leave)?.attempt ?? "nobody");
    } else if ("end" in step) {
      pool.end(chosen([...pool.running.keys()], step.end) ?? "nobody", step.clean);
    } else if ("drain" in step) {
      const card = chosen(pool.cards, step.drain);
      if (card !== undefined) pool.drain(card);
    } else if ("steal" in step) {
      steal(pool, step.steal, `speech ${i}`, stolen);
    } else pool.deliver(step.deliver);
  }
  return { came, stolen };
}

/** Another service that shares the card takes a slot; this pool hears of it late. */
function steal(
  pool: SmallPool,
  index: number,
  name: string,
  stolen: { card: number; name: string; number: number }[],
): void {
  const at = index % pool.cards.length;
  const card = pool.cards[at];
  if (card === undefined) return;
  const asked = { attempt: name, request: "", tenant: "speaker", service: "speech", fingerprint: null };
  const outcome = card.slots.claim(asked, pool.slotsEach, 60_000, pool.now);
  if ("no" in outcome) return;
  card.working.add(name);
  pool.highest = Math.max(pool.highest, card.working.size);
  stolen.push({ card: at, name, number: outcome.lease.number });
  pool.tell(card);
}

/** Nothing is under way any more: free slots by the cards themselves, and who of those in line may have one. */
function idle(pool: SmallPool): { free: number; waiting: string[] } {
  pool.settle();
  const free = pool.cards.reduce((sum, card) => sum + pool.slotsEach - card.slots.held.length, 0);
  const holding = (tenant: string) =>
    pool.cards.flatMap((card) => card.slots.held).filter((lease) => lease.tenant === tenant).length;
  const waiting = pool.room.entries().filter(({ tenant }) => holding(tenant) < pool.concurrent);
  return { free, waiting: waiting.map(({ attempt }) => attempt) };
}

test("no wake-up is lost: when nothing is under way, no slot is free for which somebody waits", () => {
  const property = fc.property(sizes, steps, ({ cards, slots, concurrent }, list) => {
    const pool = new SmallPool(cards, slots, concurrent);
    play(pool, list);
    const { free, waiting } = idle(pool);
    expectThat(free === 0 || waiting.length === 0, `${free} slots are free, ${waiting.join()} wait`);
  });
  fc.assert(property, { numRuns: 2_000, examples: OVERTAKEN });
});

test("no GPU ever runs more than its slots, however late and disordered the reports are", () => {
  const property = fc.property(sizes, steps, ({ cards, slots, concurrent }, list) => {
    const pool = new SmallPool(cards, slots, concurrent);
    play(pool, list);
    pool.settle();
    expect(pool.highest).toBeLessThanOrEqual(slots);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("everybody who came is served once, or left; in the end all counts are nothing", () => {
  const property = fc.property(sizes, steps, ({ cards, slots, concurrent }, list) => {
    const pool = new SmallPool(cards, slots, concurrent);
    const { came, stolen } = play(pool, list);
    for (const { card, name, number } of stolen) {
      pool.cards[card]?.working.delete(name);
      pool.cards[card]?.slots.release(number, name, { clean: true, health: "ok", reason: null }, pool.now);
    }
    for (let round = 0; round <= came.length; round++) {
      for (const card of pool.cards) pool.drain(card);
      pool.settle();
      for (const name of pool.running.keys()) pool.end(name, true);
    }
    pool.settle();
    expect([...pool.served, ...pool.left].toSorted()).toEqual(came.toSorted());
    expect(pool.room.length).toBe(0);
    for (const tenant of ["tenant 0", "tenant 1", "tenant 2"]) expect(pool.counts.holding(tenant)).toBe(0);
  });
  fc.assert(property, { numRuns: 1_000, examples: OVERTAKEN });
});

test("a tenant never holds more slots than its concurrent number, as long as the pool knows its cards", () => {
  const property = fc.property(
    sizes,
    fc.array(fc.nat({ max: 2 }), { maxLength: 60, size: "max" }),
    ({ cards, slots, concurrent }, tenants) => {
      const pool = new SmallPool(cards, slots, concurrent);
      pool.settle();
      for (const [i, tenant] of tenants.entries()) {
        pool.enter(`request ${i}`, `tenant ${tenant}`);
        if (i % 3 === 0) pool.deliver(i);
        for (const who of [0, 1, 2]) {
          const running = [...pool.running.values()].filter((run) => run.tenant === `tenant ${who}`).length;
          expectThat(running <= concurrent, `${running} of ${concurrent} run`);
        }
        if (i % 5 === 0) pool.end(chosen([...pool.running.keys()], i) ?? "nobody", true);
      }
    },
  );
  fc.assert(property, { numRuns: 1_000 });
});
