import { afterEach, expect, test, vi } from "vitest";
import { pend, settled } from "../../../worker/results/pending.ts";

afterEach(() => vi.useRealTimers());

const never = () => new Promise<never>(() => {});

/** Whether it ends within 20 ms. */
async function atOnce(wait: Promise<void>): Promise<boolean> {
  return Promise.race([wait.then(() => true), scheduler.wait(20).then(() => false)]);
}

test("a reader waits for a write in progress, however it ends", async () => {
  for (const end of ["resolve", "reject"] as const) {
    const work = Promise.withResolvers<void>();
    pend(["a", "b"], work.promise);
    expect(await atOnce(settled("a"))).toBe(false);
    work[end]();
    expect(await atOnce(settled("a"))).toBe(true);
    expect(await atOnce(settled("b"))).toBe(true);
  }
  expect(await atOnce(settled("unknown"))).toBe(true);
});

test("a write that was cut off with its request does not block readers for more than 5 s", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  pend(["lost"], never());
  expect(await atOnce(settled("lost"))).toBe(false);
  vi.advanceTimersByTime(5_000);
  expect(await atOnce(settled("lost"))).toBe(true);
});
