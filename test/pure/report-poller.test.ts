import { expect, test } from "vitest";
import { ASKED_AT_ONCE, ReportPoller } from "../../durable-objects/report-poller.ts";
import { FakeClock } from "./fake-clock.ts";

const ASK_AGAIN_MS = 5_000;
const ATTENTIVE_MS = 10_000;
const HOUR_MS = 3_600_000;

/** A line with a ReportPoller. Each look is recorded with its time and schedules the next one, as in the desk. */
class Line {
  readonly clock = new FakeClock();
  waiting = false;
  readonly looks: number[] = [];
  openingAt: number | null = null;
  readonly lookout: ReportPoller = new ReportPoller(
    this.clock,
    () => this.waiting,
    () => {
      this.looks.push(this.clock.passed);
      this.lookout.wakeAt(this.openingAt);
    },
  );
}

test("there is a look every five seconds while a request waits, and none when none does", () => {
  const line = new Line();
  line.waiting = true;
  line.lookout.watch();
  line.clock.pass(3 * ASK_AGAIN_MS);
  expect(line.looks).toEqual([5_000, 10_000, 15_000]);
  line.waiting = false;
  line.clock.pass(10 * ASK_AGAIN_MS);
  expect([line.looks.length, line.clock.timers]).toEqual([3, 0]);
  line.waiting = true;
  line.lookout.watch();
  line.clock.pass(ASK_AGAIN_MS);
  expect(line.looks.length).toBe(4);
});

test("a gate that opens before the next look is looked at when it opens, a later one in the usual turn", () => {
  const line = new Line();
  line.waiting = true;
  line.lookout.watch();
  line.lookout.wakeAt(line.clock.now() + 1_200);
  line.lookout.wakeAt(line.clock.now() + HOUR_MS);
  line.clock.pass(1_200);
  expect(line.looks).toEqual([1_200]);
  line.clock.pass(ASK_AGAIN_MS);
  expect(line.looks).toEqual([1_200, 6_200]);
});

test("a time in the past causes an immediate look, and many calls cause one look", () => {
  const line = new Line();
  line.waiting = true;
  for (let i = 0; i < 100; i++) line.lookout.wakeAt(line.clock.now() - HOUR_MS);
  expect(line.clock.timers).toBe(1);
  line.clock.pass(0);
  expect(line.looks).toEqual([0]);
});

test("no jump of the clock, forward or back, delays the next look", () => {
  for (const ms of [-HOUR_MS, HOUR_MS]) {
    const line = new Line();
    line.waiting = true;
    line.lookout.watch();
    line.clock.pass(1_000);
    line.clock.jump(ms);
    line.lookout.watch();
    line.clock.pass(ASK_AGAIN_MS);
    expect(line.looks.length, `${ms}`).toBeGreaterThanOrEqual(1);
  }
});

test("the lookout is attentive while a request waits, and for ten seconds after watching began", () => {
  const line = new Line();
  expect(line.lookout.attentive).toBe(false);
  expect(line.lookout.watch()).toBe(true);
  expect(line.lookout.watch()).toBe(false);
  line.clock.pass(ATTENTIVE_MS - 1);
  expect(line.lookout.attentive).toBe(true);
  line.clock.pass(1);
  expect(line.lookout.attentive).toBe(false);
  line.waiting = true;
  expect(line.lookout.attentive).toBe(true);
  expect(line.lookout.watch()).toBe(true);
});

test("cards are asked in groups, in turn, each as often as the others", () => {
  const line = new Line();
  const names = Array.from({ length: 120 }, (_, i) => `card ${i}`);
  const asked = Array.from({ length: 12 }, () => line.lookout.some(names));
  for (const some of asked) expect([some.length, new Set(some).size]).toEqual([ASKED_AT_ONCE, ASKED_AT_ONCE]);
  const counts = Map.groupBy(asked.flat(), (name) => name);
  expect(new Set(names.map((name) => counts.get(name)?.length))).toEqual(new Set([5]));
  expect(line.lookout.some([])).toEqual([]);
  expect(line.lookout.some(["one"])).toEqual(["one"]);
});
