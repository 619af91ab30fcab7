import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Runs } from "../../durable-objects/runs.ts";
import { expectSame } from "./same.ts";

interface Asker {
  entry: { tenant: string; attempt: string };
}

const FINGERPRINTS = ["f1", "f2", "f3"];
const TENANTS = ["t1", "t2", "t3"];

function asker(attempt: string, tenant = "t1"): Asker {
  return { entry: { tenant, attempt } };
}

/** Who asked for what, as a list; and who was told how often. */
class RunsModel {
  /** By fingerprint: the leader's attempt, and those who follow in their order. */
  readonly runs = new Map<string, { attempt: string; followers: Asker[] }>();
  readonly told: Asker[] = [];
  readonly left = new Set<Asker>();
  readonly came: Asker[] = [];
  attempts = 0;

  get followers(): Asker[] {
    return [...this.runs.values()].flatMap((run) => run.followers);
  }

  some(pick: number): { fingerprint: string; attempt: string; followers: Asker[] } | undefined {
    const [fingerprint, run] = [...this.runs][pick % Math.max(1, this.runs.size)] ?? [];
    return fingerprint === undefined || run === undefined ? undefined : { fingerprint, ...run };
  }
}

type Call = fc.Command<RunsModel, Runs<Asker>>;

function call(name: string, run: (model: RunsModel, runs: Runs<Asker>) => void): Call {
  return {
    check: () => true,
    run(model, runs) {
      run(model, runs);
      expectSame(runs.followers, model.followers.length);
      for (const tenant of TENANTS) {
        expectSame(runs.followersOf(tenant), model.followers.filter(({ entry }) => entry.tenant === tenant).length);
      }
      for (const { attempt, followers } of model.runs.values()) {
        expectSame([...(runs.ofLeader(attempt)?.followers ?? [])], followers);
      }
    },
    toString: () => name,
  };
}

const pick = fc.nat({ max: 8 });

/** Asks: follows the run of the same if there is one, else leads one. */
const asks = fc.tuple(fc.constantFrom(...FINGERPRINTS), fc.constantFrom(...TENANTS)).map(([fingerprint, tenant]) =>
  call(`ask(${fingerprint}, ${tenant})`, (model, runs) => {
    const who = asker(`attempt ${++model.attempts}`, tenant);
    model.came.push(who);
    const run = model.runs.get(fingerprint);
    expect(runs.follow(fingerprint, who)).toBe(run !== undefined);
    if (run !== undefined) run.followers.push(who);
    else {
      runs.lead(fingerprint, who.entry.attempt, who);
      model.runs.set(fingerprint, { attempt: who.entry.attempt, followers: [] });
      model.told.push(who);
    }
  }),
);

const ends = pick.map((i) =>
  call(`end(${i})`, (model, runs) => {
    const some = model.some(i);
    const run = runs.ofLeader(some?.attempt ?? "nobody");
    expect(run === undefined).toBe(some === undefined);
    if (some === undefined || run === undefined) return;
    runs.end(run);
    model.told.push(...run.followers);
    model.runs.delete(some.fingerprint);
    expect(runs.ofLeader(some.attempt)).toBeUndefined();
  }),
);

/** The leader is lost: its first follower leads the others on. */
const losses = pick.map((i) =>
  call(`lose(${i})`, (model, runs) => {
    const some = model.some(i);
    const run = runs.ofLeader(some?.attempt ?? "nobody");
    if (some === undefined || run === undefined) return;
    runs.end(run);
    const [next, ...others] = run.followers;
    model.runs.delete(some.fingerprint);
    if (next === undefined) return;
    run.followers.delete(next);
    runs.lead(some.fingerprint, next.entry.attempt, next, run.lost + 1, run.followers);
    model.told.push(next);
    model.runs.set(some.fingerprint, { attempt: next.entry.attempt, followers: others });
    expect(runs.ofLeader(next.entry.attempt)?.lost).toBe(run.lost + 1);
  }),
);

const retries = pick.map((i) =>
  call(`rename(${i})`, (model, runs) => {
    const some = model.some(i);
    const attempt = `attempt ${++model.attempts}`;
    runs.rename(some?.attempt ?? "nobody", attempt);
    if (some !== undefined) model.runs.set(some.fingerprint, { attempt, followers: some.followers });
  }),
);

const leavings = pick.map((i) =>
  call(`unfollow(${i})`, (model, runs) => {
    const who = model.came[i % Math.max(1, model.came.length)];
    if (who === undefined) return;
    runs.unfollow(who);
    for (const run of model.runs.values()) {
      if (!run.followers.includes(who)) continue;
      run.followers.splice(run.followers.indexOf(who), 1);
      model.left.add(who);
    }
  }),
);

test("whoever asked leads, is told or left, and exactly one of these once; counts agree all the time", () => {
  const commands = fc.commands([asks, asks, asks, ends, losses, retries, leavings], { maxCommands: 80, size: "max" });
  const property = fc.property(commands, (list) => {
    const [model, real] = [new RunsModel(), new Runs<Asker>()];
    fc.modelRun(() => ({ model, real }), list);
    for (const { attempt } of model.runs.values()) {
      const run = real.ofLeader(attempt);
      if (run === undefined) throw new Error("a run was lost");
      real.end(run);
      model.told.push(...run.followers);
    }
    expect(new Set(model.told).size).toBe(model.told.length);
    expect(model.came.filter((who) => !model.told.includes(who) && !model.left.has(who))).toEqual([]);
    expect(model.told.filter((who) => model.left.has(who))).toEqual([]);
    expect(real.followers).toBe(0);
    for (const tenant of TENANTS) expect(real.followersOf(tenant)).toBe(0);
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("a hundred who ask the same are one run and ninety-nine who are told", () => {
  const runs = new Runs<Asker>();
  const askers = Array.from({ length: 100 }, (_, i) => asker(`a${i}`));
  for (const who of askers) if (!runs.follow("same", who)) runs.lead("same", who.entry.attempt, who);
  const run = runs.ofLeader("a0");
  expect(run?.followers.size).toBe(99);
  if (run !== undefined) runs.end(run);
  expect([...(run?.followers ?? [])]).toEqual(askers.slice(1));
  expect(runs.follow("same", asker("late"))).toBe(false);
});

test("a run whose leader's ticket was lost is followed like any other", () => {
  const runs = new Runs<Asker>();
  runs.lead("same", "before the restart", null);
  expect(runs.follow("same", asker("follower"))).toBe(true);
  expect(runs.ofLeader("before the restart")?.leader).toBeNull();
});

test("a leader that tries again under another attempt leads the same run, and the old name no more", () => {
  const runs = new Runs<Asker>();
  runs.lead("same", "first", asker("first"));
  runs.follow("same", asker("follower"));
  runs.rename("first", "second");
  expect(runs.ofLeader("first")).toBeUndefined();
  expect(runs.ofLeader("second")?.followers.size).toBe(1);
  expect(runs.follow("same", asker("another"))).toBe(true);
});

test("who left is not told, and leaving twice or never having come counts nothing", () => {
  const runs = new Runs<Asker>();
  const [one, other] = [asker("one", "t1"), asker("other", "t1")];
  runs.lead("same", "leader", asker("leader"));
  runs.follow("same", one);
  runs.follow("same", other);
  runs.unfollow(one);
  runs.unfollow(one);
  runs.unfollow(asker("stranger", "t1"));
  expect(runs.followersOf("t1")).toBe(1);
  expect([...(runs.ofLeader("leader")?.followers ?? [])]).toEqual([other]);
});

test("who follows twice is one follower", () => {
  const runs = new Runs<Asker>();
  runs.lead("same", "leader", asker("leader"));
  const who = asker("follower", "t1");
  expect([runs.follow("same", who), runs.follow("same", who)]).toEqual([true, true]);
  expect(runs.followersOf("t1")).toBe(1);
  runs.unfollow(who);
  expect([runs.followers, runs.followersOf("t1")]).toEqual([0, 0]);
});

test("a run that is ended twice takes nothing from the one that came after it", () => {
  const runs = new Runs<Asker>();
  runs.lead("same", "leader", asker("leader"));
  const before = runs.ofLeader("leader");
  if (before === undefined) throw new Error("there is no run");
  runs.end(before);
  runs.lead("same", "leader", asker("leader"));
  runs.end(before);
  expect(runs.ofLeader("leader")).toBeDefined();
  expect(runs.follow("same", asker("follower"))).toBe(true);
});

/** A run with so many who follow it. */
function followed(count: number, tenant = "t1"): { runs: Runs<Asker>; askers: Asker[] } {
  const runs = new Runs<Asker>();
  const askers = Array.from({ length: count + 1 }, (_, i) => asker(`a${i}`, tenant));
  for (const who of askers) if (!runs.follow("same", who)) runs.lead("same", who.entry.attempt, who);
  return { runs, askers };
}

test("a lost run is led on by the first who followed; the others follow that one", () => {
  const { runs, askers } = followed(3);
  const run = runs.ofLeader("a0");
  if (run === undefined) throw new Error("there is no run");
  expect(runs.succeed(run, true)).toEqual({ next: askers[1], told: [] });
  expect(runs.ofLeader("a0")).toBeUndefined();
  expect([...(runs.ofLeader("a1")?.followers ?? [])]).toEqual(askers.slice(2));
  expect([runs.followers, runs.followersOf("t1")]).toEqual([2, 2]);
  expect(runs.follow("same", asker("late"))).toBe(true);
});

test("a run that is lost a second time is not begun again: all are told", () => {
  const { runs, askers } = followed(3);
  for (const attempt of ["a0", "a1"]) {
    const run = runs.ofLeader(attempt);
    if (run === undefined) throw new Error("there is no run");
    const { next, told } = runs.succeed(run, true);
    if (attempt === "a0") expect(next).toBe(askers[1]);
    else expect({ next, told }).toEqual({ next: null, told: askers.slice(2) });
  }
  expect([runs.followers, runs.followersOf("t1"), runs.follow("same", asker("late"))]).toEqual([0, 0, false]);
});

test("leaders who go before they ran cost no run: each is followed by the next", () => {
  const { runs } = followed(5);
  for (let i = 0; i < 5; i++) {
    const run = runs.ofLeader(`a${i}`);
    if (run === undefined) throw new Error("there is no run");
    expect(runs.succeed(run, false).next?.entry.attempt).toBe(`a${i + 1}`);
  }
  const last = runs.ofLeader("a5");
  expect(last?.lost).toBe(0);
  if (last !== undefined) expect(runs.succeed(last, true)).toEqual({ next: null, told: [] });
  expect(runs.follow("same", asker("late"))).toBe(false);
});
