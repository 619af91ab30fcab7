/** When an object's alarm comes, whatever time is asked for, and whatever stands already. */
import * as fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { wakeAt, wakeBy } from "../../durable-objects/alarm.ts";

const NOW = 1_800_000_000_000;
const DAY_MS = 86_400_000;
const LATE_MS = 5_000;

const around = fc.double({ min: -DAY_MS, max: DAY_MS, noNaN: true }).map((ms) => NOW + ms);

/** As the platform keeps it: cut to a whole millisecond. */
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

test("an alarm never comes before it is due, nor at the very moment at which it is set", async () => {
  stop();
  await fc.assert(
    fc.asyncProperty(around, fc.option(around), async (at, standing) => {
      const alarm = alarmAt(standing === null ? null : Math.trunc(standing));
      await wakeAt(alarm, at);
      expect(alarm.at).toBe(Math.max(Math.ceil(at), NOW + 1));
    }),
  );
});

test("one that stands is kept where it comes in time, and replaced where it comes late or has not come", async () => {
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
