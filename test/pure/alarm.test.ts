/** When an object's alarm fires, for any requested time and any alarm that is already set. */
import * as fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { wakeAt, wakeBy } from "../../durable-objects/alarm.ts";

const NOW = 1_800_000_000_000;
const DAY_MS = 86_400_000;
const LATE_MS = 5_000;

const around = fc.double({ min: -DAY_MS, max: DAY_MS, noNaN: true }).map((ms) => NOW + ms);

/** Like the platform, it truncates the time to a whole millisecond. */
function alarmAt(standing: number | null) {
  let set = standing;
  let writes = 0;
  return {
    get at() {
      return set;
    },
    get writes() {
      return writes;
    },
    getAlarm: () => Promise.resolve(set),
    setAlarm: (at: number) => {
      writes++;
      set = Math.trunc(at);
      return Promise.resolve();
    },
  };
}

afterEach(() => void vi.useRealTimers());

function stop(): void {
  vi.useFakeTimers({ toFake: ["Date"], now: NOW });
}

test("an alarm never fires before it is due, nor at the very moment when it is set", async () => {
  stop();
  await fc.assert(
    fc.asyncProperty(around, fc.option(around), async (at, standing) => {
      const alarm = alarmAt(standing === null ? null : Math.trunc(standing));
      await wakeAt(alarm, at);
      expect(alarm.at).toBe(Math.max(Math.ceil(at), NOW + 1));
    }),
  );
});

test("an alarm that is already set is kept if it is in time, and replaced if it is too late or overdue", async () => {
  stop();
  await fc.assert(
    fc.asyncProperty(around, fc.option(around.map(Math.trunc)), async (at, standing) => {
      const alarm = alarmAt(standing);
      await wakeBy(alarm, at);
      const isKept = standing !== null && standing <= at && standing >= NOW - LATE_MS;
      expect(alarm.writes).toBe(isKept ? 0 : 1);
      expect(alarm.at).toBe(isKept ? standing : Math.max(Math.ceil(at), NOW + 1));
    }),
  );
});
