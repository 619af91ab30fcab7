import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { describe, expect, it } from "vitest";
import { Ledger, ParkTally, RUNS_KEPT_MAX } from "../../sim/counts.ts";
import type { Run } from "../../sim/counts.ts";
import { must } from "./wire.ts";

const START = { id: "r", path: "/sdapi/v1/txt2img", route: "/sdapi/v1/txt2img" };

function card(slots = 2): { ledger: Ledger; park: ParkTally } {
  const park = new ParkTally();
  return { ledger: new Ledger(slots, park), park };
}

describe("counts", () => {
  it("counts a start beyond the slots as over, and no other start", () => {
    const { ledger } = card();
    const runs = [1, 2, 3].map((now) => ledger.start(now, START));
    expect(runs.map(({ over }) => over)).toEqual([false, false, true]);
    ledger.end(must(runs[0]), 4, "done");
    ledger.end(must(runs[1]), 5, "done");
    ledger.start(6, START);
    expect(ledger.counts(7)).toMatchObject({ running: 2, highest: 3, over: 1, starts: 4, done: 2 });
  });

  it("counts a run whose caller left as a ghost, and adds up the time after the caller left", () => {
    const { ledger } = card();
    const run = ledger.start(1_000, START);
    ledger.leave(run, 1_100);
    ledger.leave(run, 1_200);
    expect(ledger.counts(1_300)).toMatchObject({ running: 1, left: 1, ghosts: 0 });
    ledger.end(run, 1_500, "done");
    expect(ledger.counts(1_600)).toMatchObject({
      running: 0,
      left: 1,
      ghosts: 1,
      ghost_ms: 400,
      done: 0,
      busy_ms: 500,
    });
    expect(must(ledger.runs()[0])).toMatchObject({
      started_at: 1_000,
      left_at: 1_100,
      ended_at: 1_500,
      ended: "ghost",
    });
  });

  it("ends a run only once", () => {
    const { ledger, park } = card();
    const run = ledger.start(1, START);
    ledger.end(run, 2, "fault");
    ledger.end(run, 3, "done");
    ledger.leave(run, 4);
    expect(ledger.counts(5)).toMatchObject({ running: 0, failed: 1, done: 0, left: 0 });
    expect(park.running).toBe(0);
  });

  it("tracks the highest number of concurrent runs over all cards", () => {
    const park = new ParkTally();
    const [a, b] = [new Ledger(2, park), new Ledger(2, park)];
    const runs = [a.start(1, START), a.start(2, START), b.start(3, START)];
    a.end(must(runs[0]), 4, "done");
    b.start(5, START);
    expect(park).toMatchObject({ running: 3, highest: 3 });
  });

  it("drops the oldest runs beyond its limit, but not their counts", () => {
    const { ledger } = card();
    for (let now = 1; now <= RUNS_KEPT_MAX + 10; now++) ledger.end(ledger.start(now, START), now, "done");
    expect(ledger.runs()).toHaveLength(RUNS_KEPT_MAX);
    expect(must(ledger.runs()[0]).started_at).toBe(11);
    expect(ledger.counts(9_999)).toMatchObject({
      starts: RUNS_KEPT_MAX + 10,
      done: RUNS_KEPT_MAX + 10,
    });
  });

  it("returns copies, so that readers cannot change its state", () => {
    const { ledger } = card();
    ledger.start(1, START);
    Object.assign(must(ledger.runs()[0]), { ended: "done" });
    expect(must(ledger.runs()[0]).ended).toBeNull();
  });

  it("keeps runs that are under way through a reset", () => {
    const { ledger } = card();
    const [kept, over] = [ledger.start(1, START), ledger.start(1, START)];
    ledger.leave(kept, 2);
    ledger.reset(3);
    expect(ledger.counts(3)).toMatchObject({
      running: 2,
      highest: 2,
      starts: 2,
      left: 1,
      over: 0,
      busy_ms: 0,
    });
    ledger.end(kept, 5, "done");
    ledger.end(over, 5, "done");
    expect(ledger.counts(5)).toMatchObject({
      running: 0,
      starts: 2,
      done: 1,
      ghosts: 1,
      busy_ms: 4,
    });
    expect(ledger.runs()).toHaveLength(2);
  });

  it("always has starts = done + ghosts + stopped + failed + running, and agrees with a simple model", () => {
    const step = record({
      do: constantFrom("start", "leave", "done", "stopped", "fault", "reset"),
      which: nat(20),
    });
    assert(
      property(array(step, { maxLength: 120 }), (steps) => {
        const { ledger, park } = card();
        const open: Run[] = [];
        let highest = 0;
        let over = 0;
        steps.forEach(({ do: what, which }, now) => {
          const run = open[which % Math.max(1, open.length)];
          if (what === "start") {
            if (open.length >= 2) over += 1;
            open.push(ledger.start(now + 1, START));
            highest = Math.max(highest, open.length);
          } else if (what === "reset") {
            ledger.reset(now + 1);
            [highest, over] = [open.length, 0];
          } else if (run && what === "leave") ledger.leave(run, now + 1);
          else if (run && (what === "done" || what === "stopped" || what === "fault")) {
            ledger.end(run, now + 1, what);
            open.splice(open.indexOf(run), 1);
          }
          const c = ledger.counts(now + 1);
          expect(c.starts).toBe(c.done + c.ghosts + c.stopped + c.failed + c.running);
          expect([c.running, c.highest, c.over, park.running]).toEqual([open.length, highest, over, open.length]);
        });
      }),
      { numRuns: 200 },
    );
  });
});
