import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Notifier } from "../../durable-objects/notifier.ts";

const LATER_MS = 2_000;
const TRIES_MAX = 4;
/** Longest time that a failing listener is waited for. */
const GIVEN_UP_MS = 5_000;
/** Longest time that a call's answer is waited for. */
const ANSWER_MS_MAX = 10_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A slow listener; what it is told is the state at the time of the call. */
class Listener {
  state = 0;
  readonly told: number[] = [];
  atOnce = 0;
  highest = 0;
  wanted = true;
  failing = 0;
  takesMs = 0;
  readonly teller = new Notifier(() => this.#hear());

  change(how: "now" | "later" | "as wanted" = "as wanted"): Promise<void> {
    this.state++;
    return this.teller.tell(how);
  }

  async #hear(): Promise<boolean> {
    const { state, wanted } = this;
    this.highest = Math.max(this.highest, ++this.atOnce);
    if (this.takesMs === Infinity) await new Promise(() => undefined);
    if (this.takesMs > 0) await new Promise((resolve) => setTimeout(resolve, this.takesMs));
    this.atOnce--;
    if (this.failing-- > 0) throw new Error("the listener is gone");
    this.told.push(state);
    return wanted;
  }
}

test("a change is told at once, and changes during a call are told by the next call", async () => {
  const listener = new Listener();
  listener.takesMs = 100;
  void listener.change();
  for (let i = 0; i < 5; i++) void listener.change();
  await vi.advanceTimersByTimeAsync(99);
  expect(listener.told).toEqual([]);
  await vi.advanceTimersByTimeAsync(101);
  expect([listener.told, listener.highest]).toEqual([[1, 6], 1]);
});

test("at most one call is in progress, and the last state is always told, in any timing", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    const listener = new Listener();
    let random = seed;
    const next = (below: number): number => (random = (random * 48_271) % 2_147_483_647) % below;
    for (let i = 0; i < 30; i++) {
      listener.takesMs = next(3) * 40;
      listener.wanted = next(2) === 0;
      if (i % 10 === 0) listener.failing = 1;
      if (next(6) === 0) listener.teller.listen();
      void listener.change((["now", "later", "as wanted"] as const)[next(3)]);
      await vi.advanceTimersByTimeAsync(next(200));
    }
    listener.failing = 0;
    await vi.advanceTimersByTimeAsync(GIVEN_UP_MS);
    expect([listener.told.at(-1), listener.highest], `seed ${seed}`).toEqual([listener.state, 1]);
    expect(listener.told, "never backwards").toEqual(listener.told.toSorted((a, b) => a - b));
  }
});

test("a change that comes just as a call ends is told too", async () => {
  for (let ticks = 0; ticks < 12; ticks++) {
    const listener = new Listener();
    void listener.change();
    for (let i = 0; i < ticks; i++) await Promise.resolve();
    void listener.change();
    await vi.advanceTimersByTimeAsync(GIVEN_UP_MS);
    expect(listener.told.at(-1), `after ${ticks} ticks`).toBe(2);
  }
});

test("a listener that does not need to know at once is told later, together with later changes", async () => {
  const listener = new Listener();
  listener.wanted = false;
  await listener.change();
  void listener.change();
  await vi.advanceTimersByTimeAsync(LATER_MS - 1);
  void listener.change();
  expect(listener.told).toEqual([1]);
  await vi.advanceTimersByTimeAsync(1);
  expect(listener.told).toEqual([1, 3]);
});

test('a change told with "later" waits, unless another change follows that does not', async () => {
  const listener = new Listener();
  void listener.change("later");
  await vi.advanceTimersByTimeAsync(LATER_MS - 1);
  expect(listener.told).toEqual([]);
  void listener.change();
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.told).toEqual([2]);
  void listener.change("later");
  await vi.advanceTimersByTimeAsync(LATER_MS);
  expect(listener.told).toEqual([2, 3]);
});

test("a listener that asks on its own is told at once what was delayed, and further changes at once", async () => {
  const listener = new Listener();
  listener.wanted = false;
  await listener.change();
  void listener.change();
  await vi.advanceTimersByTimeAsync(10);
  listener.teller.listen();
  listener.wanted = true;
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.told).toEqual([1, 2]);
  void listener.change();
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.told).toEqual([1, 2, 3]);
});

test("an answer older than the listener's own question does not make the teller slow again", async () => {
  const listener = new Listener();
  listener.wanted = false;
  listener.takesMs = 20;
  void listener.change();
  await vi.advanceTimersByTimeAsync(10);
  listener.teller.listen();
  await vi.advanceTimersByTimeAsync(10);
  listener.takesMs = 0;
  void listener.change();
  await vi.advanceTimersByTimeAsync(0);
  expect(listener.told).toEqual([1, 2]);
});

test("a failed call is repeated after growing pauses, and ends with the latest state", async () => {
  const listener = new Listener();
  listener.failing = 3;
  void listener.change();
  await vi.advanceTimersByTimeAsync(99);
  void listener.change();
  expect(listener.failing).toBe(2);
  await vi.advanceTimersByTimeAsync(1 + 200 + 399);
  expect(listener.told).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(listener.told).toEqual([2]);
});

test("a call that is never answered counts as failed, and the listener ends with the latest state", async () => {
  const listener = new Listener();
  listener.takesMs = Infinity;
  void listener.change();
  await vi.advanceTimersByTimeAsync(ANSWER_MS_MAX - 1);
  listener.takesMs = 0;
  void listener.change();
  expect(listener.told).toEqual([]);
  await vi.advanceTimersByTimeAsync(1 + GIVEN_UP_MS);
  expect(listener.told).toEqual([2]);
});

test("an unreachable listener is given up, logged once, and tried again with the next change", async () => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => undefined);
  const listener = new Listener();
  listener.failing = TRIES_MAX;
  void listener.change();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([listener.failing, listener.told]).toEqual([0, []]);
  expect(logged).toHaveBeenCalledTimes(1);
  await listener.change();
  expect(listener.told).toEqual([2]);
  logged.mockRestore();
});
