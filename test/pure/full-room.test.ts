/** A full waiting room: which request is displaced, and what remains of tenants that have left. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { entryOf } from "./room-model.ts";

/** Empty lines that are kept before they are cleaned up. */
const LINES_KEPT = 1024;

/** A room in which each tenant has the given number of waiters, in order of arrival. */
function roomOf(lengths: Record<string, number>): WaitingRoom {
  const room = new WaitingRoom();
  let arrivedAt = 0;
  for (const [tenant, length] of Object.entries(lengths)) {
    for (let i = 0; i < length; i++) room.enter(entryOf(`${tenant} ${i}`, tenant, { arrivedAt: ++arrivedAt }));
  }
  return room;
}

const lengths = fc.dictionary(fc.constantFrom("a", "b", "c", "d", "e"), fc.integer({ min: 1, max: 9 }), { minKeys: 1 });

test("a newcomer displaces the newest of the longest line, and only while its tenant is below its equal share", () => {
  const property = fc.property(lengths, fc.constantFrom("a", "b", "new"), (by, tenant) => {
    const max = Object.values(by).reduce((sum, length) => sum + length, 0);
    const displaced = roomOf(by).displaced(tenant, max);
    const own = by[tenant] ?? 0;
    const tenants = Object.keys({ ...by, [tenant]: own }).length;
    const longest = Math.max(0, ...Object.entries(by).map(([name, length]) => (name === tenant ? 0 : length)));
    if (own >= max / tenants || longest <= own) expect(displaced).toBeNull();
    else {
      const [whose = "", which] = displaced?.split(" ") ?? [];
      expect(by[whose]).toBe(longest);
      expect(Number(which)).toBe(longest - 1);
    }
  });
  fc.assert(property, { numRuns: 1_000 });
});

test("tenants that displace others reach equal shares and no more", () => {
  const room = roomOf({ crowd: 60 });
  const max = 60;
  for (const tenant of ["a", "b"]) {
    for (let i = 0; i < 60; i++) {
      const displaced = room.displaced(tenant, max);
      if (displaced === null) continue;
      room.leave(displaced);
      room.enter(entryOf(`${tenant} ${i}`, tenant));
    }
  }
  expect(room.length).toBe(max);
  expect([room.lengthOf("crowd"), room.lengthOf("a"), room.lengthOf("b")]).toEqual([20, 20, 20]);
});

test("in a line with priorities the last one to be served is displaced", () => {
  const room = new WaitingRoom();
  room.enter(entryOf("low", "a", { priority: "low", arrivedAt: 1 }));
  room.enter(entryOf("normal", "a", { arrivedAt: 2 }));
  room.enter(entryOf("high", "a", { priority: "high", arrivedAt: 3 }));
  expect(room.displaced("b", 3)).toBe("low");
});

test("an empty room and a room with only the tenant's own requests displace nothing", () => {
  expect(new WaitingRoom().displaced("a", 0)).toBeNull();
  expect(roomOf({ a: 5 }).displaced("a", 5)).toBeNull();
});

test("tenants that came and went leave no lines behind", () => {
  const room = new WaitingRoom();
  const seen: string[] = [];
  for (let round = 0; round < 20_000; round++) {
    const tenant = `tenant ${round}`;
    seen.push(tenant);
    for (let i = 0; i < 1 + (round % 3); i++)
      room.enter(entryOf(`${i} of ${tenant}`, tenant, { weight: 1 + (round % 5) }));
    if (round % 7 === 0) room.leave(`0 of ${tenant}`);
    while (room.length > 20) room.grant(room.next(() => true)?.entry.attempt ?? "");
  }
  const lines = seen.filter((tenant) => room.concurrentOf(tenant) !== null).length;
  expect(lines).toBeLessThanOrEqual(LINES_KEPT + room.length);
});

test("requests that leave while their tenant is capped leave no line behind", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 5_000; i++) {
    room.enter(entryOf(`${i}`, `tenant ${i}`));
    room.cap(`tenant ${i}`, true);
    room.leave(`${i}`);
    expect(room.concurrentOf(`tenant ${i}`)).toBeNull();
  }
});
