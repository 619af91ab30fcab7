import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Entry, Priority } from "../../durable-objects/pool-protocol.ts";
import { type Run, SharedRuns } from "../../durable-objects/shared-runs.ts";
import { entryOf } from "./room-model.ts";
import { expectSame } from "./same.ts";

interface Asker {
  entry: Entry;
}

const FINGERPRINTS = ["f1", "f2"];
const TENANTS = ["t1", "t2", "t3"];
const RANKS: Priority[] = ["high", "normal", "low"];

function asker(attempt: string, tenant = "t1", more: Partial<Entry> = {}): Asker {
  return { entry: entryOf(attempt, tenant, more) };
}

/** Runs, and the requests that are in line because of them. */
class Queue {
  readonly line = new Set<Asker>();
  readonly runs = new SharedRuns<Asker>({
    enter: (who) => void this.line.add(who),
    leave: (who) => void this.line.delete(who),
  });

  join(who: Asker, fingerprint = "same"): boolean {
    return this.runs.join(fingerprint, who);
  }

  /** As the desk does: a request that is offered a card leaves the line. */
  offer(who: Asker, fingerprint = "same"): void {
    this.line.delete(who);
    this.runs.hold(fingerprint, who);
  }

  /** Tries again under a new attempt id. */
  retry(who: Asker, attempt: string, avoid: string[], fingerprint = "same"): void {
    const before = who.entry.attempt;
    this.runs.part(who);
    this.line.delete(who);
    who.entry = { ...who.entry, attempt, avoid };
    this.runs.rename(before, attempt);
    this.runs.join(fingerprint, who);
  }

  run(attempt: string): Run<Asker> {
    const run = this.runs.ofLeader(attempt);
    if (run === undefined) throw new Error(`${attempt} leads nothing`);
    return run;
  }

  get inLine(): string[] {
    return Array.from(this.line, ({ entry }) => entry.attempt).toSorted();
  }
}

interface Group {
  /** Those who wait, in order of asking. A leader is not among them while it has a card. */
  askers: Asker[];
  leader: Asker | null;
  runner: Asker | null;
  lost: number;
  isHeld: boolean;
  /** The leader waits to try again, and no other request may run. */
  isLast: boolean;
}

const rank = ({ entry }: Asker) => RANKS.indexOf(entry.priority);
const party = ({ entry }: Asker) => [entry.tenant, ...entry.avoid].join();

class RunsModel {
  readonly groups = new Map<string, Group>();
  attempts = 0;

  ask(fingerprint: string, who: Asker): boolean {
    const fresh = { askers: [], leader: null, runner: null, lost: 0, isHeld: false, isLast: false };
    const group = this.groups.get(fingerprint) ?? fresh;
    this.groups.set(fingerprint, group);
    const isFirst = group.askers.every((other) => party(other) !== party(who));
    group.askers.push(who);
    return isFirst;
  }

  /** The first request of the highest priority of each party, if none has a card for it. */
  firsts({ isHeld, askers }: Group): Asker[] {
    const parties = isHeld ? [] : Map.groupBy(askers, party).values();
    return Array.from(parties, (all) => all.toSorted((one, other) => rank(one) - rank(other))[0]).filter(
      (who) => who !== undefined,
    );
  }

  line(): string[] {
    const last = [...this.groups.values()].flatMap(({ isLast, leader }) => (isLast && leader !== null ? [leader] : []));
    const firsts = [...this.groups.values()].flatMap((group) => this.firsts(group));
    return Array.from([...firsts, ...last], ({ entry }) => entry.attempt).toSorted();
  }

  followers(tenant: string): number {
    const all = [...this.groups.values()].flatMap((group) => {
      const firsts = this.firsts(group);
      return group.askers.filter((who) => !firsts.includes(who));
    });
    return all.filter(({ entry }) => entry.tenant === tenant).length;
  }

  /** The leader waits again or is gone; the others wait as before. */
  letGo(group: Group): void {
    group.isLast = group.leader !== null && group.leader === group.runner && group.lost > 0;
    group.isHeld = group.isLast;
  }
}

type Call = fc.Command<RunsModel, Queue>;

function call(name: string, run: (model: RunsModel, queue: Queue) => void): Call {
  return {
    check: () => true,
    run(model, queue) {
      run(model, queue);
      for (const [fingerprint, { askers, leader }] of model.groups)
        if (askers.length === 0 && leader === null) model.groups.delete(fingerprint);
      expectSame(queue.inLine, model.line());
      for (const tenant of TENANTS) expectSame(queue.runs.followersOf(tenant), model.followers(tenant));
      expectSame(
        queue.runs.followers,
        TENANTS.reduce((sum, tenant) => sum + model.followers(tenant), 0),
      );
      for (const fingerprint of FINGERPRINTS)
        expectSame(queue.runs.ofFingerprint(fingerprint)?.lost, model.groups.get(fingerprint)?.lost);
    },
    toString: () => name,
  };
}

const pick = fc.nat({ max: 20 });
const chosen = <T>(list: T[], i: number): T | undefined => list[i % Math.max(1, list.length)];

const asks = fc
  .record({ fingerprint: fc.constantFrom(...FINGERPRINTS), tenant: fc.constantFrom(...TENANTS), rank: fc.nat(2) })
  .map(({ fingerprint, tenant, rank: of }) =>
    call(`ask(${fingerprint}, ${tenant}, ${of})`, (model, queue) => {
      const who = asker(`attempt ${++model.attempts}`, tenant, { priority: RANKS[of] ?? "normal" });
      expectSame(queue.join(who, fingerprint), model.ask(fingerprint, who));
    }),
  );

/** A request in line is offered a card. */
const offers = pick.map((i) =>
  call(`offer(${i})`, (model, queue) => {
    const who = chosen([...queue.line], i);
    for (const [fingerprint, group] of model.groups) {
      if (who === undefined || (!group.askers.includes(who) && !(group.isLast && group.leader === who))) continue;
      group.askers = group.askers.filter((other) => other !== who);
      Object.assign(group, { leader: who, isHeld: true, isLast: false });
      queue.offer(who, fingerprint);
    }
  }),
);

/** Something happens to the leader of a run that has a card. */
function leaders(name: string, run: (model: RunsModel, queue: Queue, group: Group, of: string, who: Asker) => void) {
  return pick.map((i) =>
    call(`${name}(${i})`, (model, queue) => {
      const held = [...model.groups].filter(([, { isHeld, isLast }]) => isHeld && !isLast);
      const [fingerprint, group] = chosen(held, i) ?? [];
      if (fingerprint === undefined || !group?.leader) return;
      run(model, queue, group, fingerprint, group.leader);
    }),
  );
}

const begins = leaders("begin", (_, queue, group, __, who) => {
  queue.runs.began(who);
  if (group.runner !== null && group.runner !== who) group.lost++;
  group.runner = who;
});

const declines = leaders("decline", (model, queue, group, fingerprint, who) => {
  queue.join(who, fingerprint);
  model.letGo(group);
  if (!group.isLast) group.askers.push(who);
});

const retries = leaders("retry", (model, queue, group, fingerprint, who) => {
  queue.retry(who, `attempt ${++model.attempts}`, [...who.entry.avoid, "x"], fingerprint);
  model.letGo(group);
  if (!group.isLast) group.askers.push(who);
});

const misses = leaders("miss", (model, queue, group, fingerprint, who) => {
  queue.runs.missed(who);
  model.letGo(group);
  // The caller speaks again.
  queue.join(who, fingerprint);
  if (!group.isLast) group.askers.push(who);
});

const losses = fc.boolean().chain((ran) =>
  leaders("lose", (model, queue, group, fingerprint, who) => {
    const told = queue.runs.lose(queue.run(who.entry.attempt), ran);
    if (ran) group.lost++;
    if (group.lost > 1) {
      expect(new Set(told)).toEqual(new Set(group.askers));
      model.groups.delete(fingerprint);
      return;
    }
    expect(told).toEqual([]);
    if (group.runner === who) group.runner = null;
    group.leader = null;
    model.letGo(group);
  }),
);

const ends = leaders("end", (model, queue, group, fingerprint, who) => {
  expect(new Set(queue.runs.end(queue.run(who.entry.attempt)))).toEqual(new Set(group.askers));
  model.groups.delete(fingerprint);
});

/** A waiting request leaves. A leader that leaves is covered by `lose`. */
const leavings = pick.map((i) =>
  call(`leave(${i})`, (model, queue) => {
    const group = chosen([...model.groups.values()], i);
    const who = chosen(group?.askers ?? [], i);
    if (group === undefined || who === undefined || who === group.leader) return;
    queue.runs.leave(who);
    group.askers = group.askers.filter((other) => other !== who);
    if (group.runner !== who) return;
    group.runner = null;
    group.lost++;
  }),
);

test("a waiting run has each party's first request in line, a run with a card none, and waiters are told once", () => {
  const calls = [asks, asks, asks, offers, offers, begins, declines, retries, misses, losses, ends, leavings];
  const property = fc.property(fc.commands(calls, { maxCommands: 80, size: "max" }), (list) => {
    fc.modelRun(() => ({ model: new RunsModel(), real: new Queue() }), list);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("of a hundred identical requests one is in line; once it is offered a card, 99 follow and are told", () => {
  const queue = new Queue();
  const askers = Array.from({ length: 100 }, (_, i) => asker(`a${i}`));
  expect(askers.map((who) => queue.join(who)).filter(Boolean)).toHaveLength(1);
  expect([queue.inLine, queue.runs.followers]).toEqual([["a0"], 99]);
  for (const who of queue.line) queue.offer(who);
  expect([queue.inLine, queue.runs.followers]).toEqual([[], 99]);
  expect(queue.runs.end(queue.run("a0"))).toEqual(askers.slice(1));
  expect([queue.runs.followers, queue.runs.ofFingerprint("same")]).toEqual([0, undefined]);
});

test("tenants wait side by side for the same run until one is offered a card, and again if it is not claimed", () => {
  const queue = new Queue();
  const [one, other, third] = [asker("one", "t1"), asker("other", "t2"), asker("third", "t2")];
  for (const who of [one, other, third]) queue.join(who);
  expect(queue.inLine).toEqual(["one", "other"]);
  queue.offer(other);
  expect([queue.inLine, queue.runs.followersOf("t1"), queue.runs.followersOf("t2")]).toEqual([[], 1, 1]);
  queue.runs.missed(other);
  expect(queue.inLine).toEqual(["one", "third"]);
  queue.join(other);
  // It re-entered after the third.
  expect(queue.inLine).toEqual(["one", "third"]);
});

test("a request ahead of its tenant's others takes their place in line, and gives it back when it leaves", () => {
  const queue = new Queue();
  const job = asker("job", "t1", { job: true });
  const later = asker("call", "t1", { arrivedAt: 1_000 });
  expect([queue.join(job), queue.join(later), queue.inLine]).toEqual([true, false, ["call"]]);
  expect(queue.runs.behind(later)).toEqual([job]);
  queue.runs.leave(later);
  expect([queue.inLine, queue.runs.followers]).toEqual([["job"], 0]);
});

test("a request that has tried a card is in line beside its tenant's others, which may have that card", () => {
  const queue = new Queue();
  const [one, other] = [asker("one"), asker("other")];
  for (const who of [one, other]) queue.join(who);
  queue.offer(one);
  queue.runs.began(one);
  queue.retry(one, "one again", ["x"]);
  expect(queue.inLine).toEqual(["one again", "other"]);
});

test("a run whose leader's ticket was lost is followed like any other", () => {
  const queue = new Queue();
  queue.runs.adopt("same", "before the restart", null);
  queue.join(asker("follower"));
  expect([queue.inLine, queue.runs.followers]).toEqual([[], 1]);
  expect(queue.runs.lose(queue.run("before the restart"), true)).toEqual([]);
  expect(queue.inLine).toEqual(["follower"]);
});

test("an asker follows a held run until that run is lost; in the queue it follows none", () => {
  const queue = new Queue();
  const [leader, follower] = [asker("leader"), asker("follower")];
  for (const who of [leader, follower]) queue.join(who);
  expect(queue.runs.heldFor(follower)).toBeNull();
  queue.offer(leader);
  expect(queue.runs.heldFor(follower)).toBe(queue.run("leader"));
  expect(queue.runs.heldFor(asker("stranger"))).toBeNull();
  queue.runs.lose(queue.run("leader"), true);
  expect(queue.runs.heldFor(follower)).toBeNull();
});

test("a leader that retries under a new attempt id leads the same run, and the old id leads nothing", () => {
  const queue = new Queue();
  const leader = asker("first");
  queue.join(leader);
  queue.offer(leader);
  queue.retry(leader, "second", ["x"]);
  expect(queue.runs.ofLeader("first")).toBeUndefined();
  expect(queue.run("second").leader).toBe(leader);
});

test("a claim that comes late, when another request has a card for the same run, runs by itself", () => {
  const queue = new Queue();
  const [late, other] = [asker("late", "t1"), asker("other", "t2")];
  for (const who of [late, other]) queue.join(who);
  queue.offer(late);
  queue.runs.missed(late);
  queue.offer(other);
  queue.offer(late);
  queue.runs.began(late);
  expect([queue.runs.ofLeader("late"), queue.run("other").leader]).toEqual([undefined, other]);
});

test("a run that is lost a second time is not started again: all waiters are told", () => {
  const queue = new Queue();
  const askers = Array.from({ length: 4 }, (_, i) => asker(`a${i}`));
  for (const who of askers) queue.join(who);
  for (const [i, who] of askers.slice(0, 2).entries()) {
    queue.offer(who);
    queue.runs.began(who);
    expect(queue.runs.lose(queue.run(`a${i}`), true)).toEqual(i === 0 ? [] : askers.slice(2));
  }
  expect([queue.inLine, queue.runs.followers, queue.runs.ofFingerprint("same")]).toEqual([[], 0, undefined]);
});

test("an overtaken run counts as lost only when the other request begins, not when it is offered a card", () => {
  const queue = new Queue();
  const [one, other] = [asker("one", "t1"), asker("other", "t2")];
  for (const who of [one, other]) queue.join(who);
  queue.offer(one);
  queue.runs.began(one);
  queue.retry(one, "again", ["x"]);
  queue.offer(other);
  queue.join(other);
  expect([queue.inLine, queue.runs.ofFingerprint("same")?.lost]).toEqual([["again", "other"], 0]);
  queue.offer(other);
  queue.runs.began(other);
  expect(queue.run("other").lost).toBe(1);
  // It is the last one that may try.
  queue.retry(other, "other again", ["x"]);
  expect(queue.inLine).toEqual(["other again"]);
});

test("leaders that leave before they ran do not count as lost runs: the next one leads", () => {
  const queue = new Queue();
  const askers = Array.from({ length: 6 }, (_, i) => asker(`a${i}`));
  for (const who of askers) queue.join(who);
  for (const [i, who] of askers.entries()) {
    expect(queue.inLine).toEqual([`a${i}`]);
    queue.offer(who);
    expect(queue.runs.lose(queue.run(`a${i}`), false)).toEqual([]);
  }
  expect(queue.runs.ofFingerprint("same")).toBeUndefined();
});

test("joining twice counts once, and leaving twice or without having joined changes nothing", () => {
  const queue = new Queue();
  const [leader, one] = [asker("leader"), asker("one")];
  queue.join(leader);
  queue.offer(leader);
  for (let twice = 0; twice < 2; twice++) queue.join(one);
  expect(queue.runs.followersOf("t1")).toBe(1);
  for (const who of [one, one, asker("stranger")]) queue.runs.leave(who);
  expect([queue.runs.followers, queue.inLine]).toEqual([0, []]);
});
