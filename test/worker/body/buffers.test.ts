import { afterEach, expect, test, vi } from "vitest";
import { Room } from "../../../worker/body/buffers.ts";

const MOST = 96 * 1024 * 1024;

afterEach(() => {
  vi.useRealTimers();
});

/** Whether all buffer memory is free. */
function isEmpty(): boolean {
  const room = new Room();
  const fits = room.grow(MOST);
  room.free();
  return fits;
}

test("freeing a room twice counts once, and freed memory is available to others", () => {
  const [one, other] = [new Room(), new Room()];
  expect(one.grow(MOST)).toBe(true);
  expect(other.grow(1)).toBe(false);
  one.shrink(MOST - 1);
  expect(other.grow(1)).toBe(true);
  one.free();
  one.free();
  expect(new Room().grow(MOST)).toBe(false);
  other.free();
  expect(isEmpty()).toBe(true);
});

test("a caller that disconnects frees its memory and can hold no more", () => {
  const caller = new AbortController();
  const room = new Room(caller.signal);
  room.grow(MOST);
  caller.abort();
  expect(isEmpty()).toBe(true);
  expect(room.grow(1)).toBe(false);
  expect(new Room(caller.signal).grow(1)).toBe(false);
});

test("memory held by a run stays after its caller has gone, until the run frees it", () => {
  const caller = new AbortController();
  const room = new Room(caller.signal);
  room.grow(1);
  room.stay();
  caller.abort();
  expect(isEmpty()).toBe(false);
  expect(room.grow(2)).toBe(true);
  room.free();
  expect(isEmpty()).toBe(true);
});

test("one tenant's bodies never take the memory reserved for others", () => {
  const mine = new Room(null, "ten_a");
  expect(mine.grow(72 * 1024 * 1024)).toBe(true);
  expect(new Room(null, "ten_a").grow(1)).toBe(false);
  const others = new Room(null, "ten_b");
  expect(others.grow(24 * 1024 * 1024)).toBe(true);
  mine.shrink(1);
  const again = new Room(null, "ten_a");
  expect(again.grow(72 * 1024 * 1024 - 1)).toBe(true);
  for (const room of [mine, others, again]) room.free();
  expect(isEmpty()).toBe(true);
});

test("memory held by a request that the platform ended is free within two minutes", () => {
  vi.useFakeTimers();
  const [dead, tenants] = [new Room(), new Room(null, "ten_a")];
  expect([dead.grow(MOST / 2), tenants.grow(MOST / 2)]).toEqual([true, true]);
  // Its timers end with it, and none of its code runs.
  vi.clearAllTimers();
  vi.advanceTimersByTime(119_999);
  const other = new Room(null, "ten_a");
  expect(other.grow(1)).toBe(false);
  vi.advanceTimersByTime(1);
  expect(other.grow(MOST / 2)).toBe(true);
  other.free();
  dead.free();
  expect(isEmpty()).toBe(true);
});

test("memory held by a live request is never freed before the request frees it", () => {
  vi.useFakeTimers();
  const room = new Room();
  room.grow(MOST);
  vi.advanceTimersByTime(86_400_000);
  expect(isEmpty()).toBe(false);
  room.free();
  expect(isEmpty()).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});
