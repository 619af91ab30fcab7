import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Entry } from "../../durable-objects/pool-protocol.ts";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { entryOf, RoomModel } from "./room-model.ts";
import { expectSame, expectThat } from "./same.ts";

const TENANTS = ["t1", "t2", "t3", "t4"];
const EVERYONE = () => true;
/** The cards that a waiter avoids, as after failed tries: four different sets. */
const avoided = (name: string) => ["card", `${name.length % 4}`];

const weights = fc.tuple(...TENANTS.map(() => fc.constantFrom(1, 1, 2, 3, 4, 10))).map((list) => {
  return Object.fromEntries(TENANTS.map((tenant, i) => [tenant, list[i] ?? 1]));
});
const tenant = fc.constantFrom(...TENANTS);
const attempt = fc.integer({ min: 1, max: 40 }).map((i) => `attempt ${i}`);
const priority = fc.constantFrom<Entry["priority"]>("normal", "normal", "high", "low");

type Call = fc.Command<RoomModel, WaitingRoom>;

function call(name: string, run: (model: RoomModel, room: WaitingRoom) => void): Call {
  return {
    check: () => true,
    run(model, room) {
      run(model, room);
      const lengths = [room.length, ...TENANTS.map((one) => room.lengthOf(one))];
      expectSame(lengths, [model.waiters.length, ...TENANTS.map((one) => model.line(one).length)]);
      expectSame(
        room.entries().map((entry) => entry.attempt),
        model.waiters.map((entry) => entry.attempt),
      );
    },
    toString: () => name,
  };
}

/** As a Pool does it: a newcomer is capped or not by the slots that its tenant holds. */
function enter(model: RoomModel, room: WaitingRoom, given: Entry): void {
  const entry = { ...given, avoid: avoided(given.attempt) };
  model.enter(entry);
  room.enter(entry);
  room.cap(entry.tenant, model.capped.has(entry.tenant));
}

const enters = fc
  .record({ attempt, tenant, priority, arrivedAt: fc.integer({ min: 0, max: 20 }) })
  .map(({ attempt: name, tenant: who, ...more }) =>
    call(`enter(${name} of ${who}, ${more.priority}, ${more.arrivedAt})`, (model, room) => {
      // An attempt belongs to one tenant, so its id contains the tenant.
      const own = entryOf(`${name} of ${who}`, who, { ...more, weight: model.weights[who] ?? 1 });
      enter(model, room, own);
    }),
  );

const bursts = fc
  .record({ tenant, count: fc.integer({ min: 2, max: 30 }), from: fc.integer({ min: 100, max: 10_000 }) })
  .map(({ tenant: who, count, from }) =>
    call(`enter(${count} of ${who})`, (model, room) => {
      for (let i = 0; i < count; i++) {
        const own = entryOf(`burst ${from + i} of ${who}`, who, { weight: model.weights[who] ?? 1, arrivedAt: 10 });
        enter(model, room, own);
      }
    }),
  );

const leaves = fc.nat().map((pick) =>
  call(`leave(${pick})`, (model, room) => {
    const name = model.waiters[pick % Math.max(1, model.waiters.length)]?.attempt ?? "nobody";
    const expected = model.leave(name);
    expect(room.leave(name)).toBe(expected);
    expect(room.has(name)).toBe(false);
  }),
);

const caps = fc.tuple(tenant, fc.boolean()).map(([who, capped]) =>
  call(`cap(${who}, ${capped})`, (model, room) => {
    model.cap(who, capped);
    room.cap(who, capped);
  }),
);

const grants = fc.integer({ min: 1, max: 12 }).map((count) =>
  call(`grant(${count})`, (model, room) => {
    for (let i = 0; i < count; i++) {
      const next = room.next(EVERYONE);
      if (next === null) {
        expect(model.eligible()).toEqual([]);
        return;
      }
      const { attempt: name, tenant: who } = next.entry;
      expectThat(model.eligible().includes(who), `${who} may not be served`);
      expectSame(name, model.line(who)[0]);
      room.grant(name);
      expectThat(model.grant(name) <= 1 + 1e-9, "one tenant was served more than its share");
    }
  }),
);

const suits = (name: string, which: number) => name.length % 4 === which;

/** Only waiters that avoid one of the sets are suitable. */
const picks = fc.nat({ max: 3 }).map((which) =>
  call(`pick(${which})`, (model, room) => {
    const next = room.next(([, avoids]) => (avoids === `${which}` ? which : null));
    const eligible = model.eligible().flatMap((who) => model.line(who));
    if (next === null) {
      expect(eligible.filter((name) => suits(name, which))).toEqual([]);
      return;
    }
    expect(model.line(next.entry.tenant).find((name) => suits(name, which))).toBe(next.entry.attempt);
    expect(eligible).toContain(next.entry.attempt);
  }),
);

const calls = [enters, enters, bursts, leaves, caps, grants, grants, picks];

test("no waiter is lost or duplicated, tenants are served by weight, each in its own order, capped ones never", () => {
  const property = fc.property(fc.commands(calls, { maxCommands: 60, size: "max" }), weights, (commands, by) => {
    fc.modelRun(() => ({ model: new RoomModel(by), real: new WaitingRoom() }), commands);
  });
  fc.assert(property, { numRuns: 1_000 });
});

/** A room after some history, with weights that floating point represents exactly. */
const exact = fc.tuple(...TENANTS.map(() => fc.constantFrom(1, 2, 4, 8))).map((list) => {
  return Object.fromEntries(TENANTS.map((who, i) => [who, list[i] ?? 1]));
});

/** Grants until the room is empty. Returns the order. */
function drain(room: WaitingRoom): string[] {
  const order: string[] = [];
  for (let next = room.next(EVERYONE); next !== null; next = room.next(EVERYONE)) {
    room.grant(next.entry.attempt);
    order.push(next.entry.attempt);
  }
  return order;
}

test("a waiter's number ahead is how many are served before it, if nobody else comes", () => {
  const property = fc.property(fc.commands(calls, { maxCommands: 40, size: "max" }), exact, (commands, by) => {
    const room = new WaitingRoom();
    fc.modelRun(() => ({ model: new RoomModel(by), real: room }), commands);
    for (const who of TENANTS) room.cap(who, false);
    const said = new Map(room.entries().map(({ attempt: name }) => [name, room.ahead(name)]));
    const order = drain(room);
    expect(order.map((name) => said.get(name))).toEqual(order.map((_, i) => i));
  });
  fc.assert(property, { numRuns: 500 });
});

test("with weights that floating point rounds, that number is off by at most one for each other tenant", () => {
  const property = fc.property(fc.commands(calls, { maxCommands: 40, size: "max" }), weights, (commands, by) => {
    const room = new WaitingRoom();
    fc.modelRun(() => ({ model: new RoomModel(by), real: room }), commands);
    for (const who of TENANTS) room.cap(who, false);
    const said = new Map(room.entries().map(({ attempt: name }) => [name, room.ahead(name)]));
    const off = drain(room).map((name, i) => Math.abs((said.get(name) ?? Infinity) - i));
    expect(Math.max(0, ...off)).toBeLessThan(TENANTS.length);
  });
  fc.assert(property, { numRuns: 300 });
});

test("requests of a capped tenant do not count as ahead", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 5; i++) room.enter(entryOf(`capped ${i}`, "capped"));
  room.enter(entryOf("mine", "other"));
  expect(room.ahead("mine")).toBe(1);
  room.cap("capped", true);
  expect(room.ahead("mine")).toBe(0);
  expect(room.ahead("nobody")).toBe(0);
});

test("how long a tenant waits depends on how many tenants ask, not on how many requests each sends", () => {
  const property = fc.property(
    fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 10 }),
    fc.nat({ max: 500 }),
    (lengths, served) => {
      const room = new WaitingRoom();
      for (const [who, length] of lengths.entries()) {
        for (let i = 0; i < length; i++) room.enter(entryOf(`${i} of ${who}`, `busy ${who}`));
      }
      for (let i = 0; i < served; i++) room.grant(room.next(EVERYONE)?.entry.attempt ?? "");
      room.enter(entryOf("small", "small"));
      expect(room.ahead("small")).toBeLessThanOrEqual(lengths.length);
      expect(drain(room).indexOf("small")).toBeLessThanOrEqual(lengths.length);
    },
  );
  fc.assert(property, { numRuns: 300 });
});

test("a tenant that was away has saved up no credit", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 400; i++) room.enter(entryOf(`busy ${i}`, "busy"));
  for (let i = 0; i < 200; i++) room.grant(room.next(EVERYONE)?.entry.attempt ?? "");
  for (let i = 0; i < 50; i++) room.enter(entryOf(`new ${i}`, "new"));
  const first = drain(room).slice(0, 40);
  expect(first.filter((name) => name.startsWith("new")).length).toBeLessThanOrEqual(21);
});

test("a tenant that sends one request at a time is not served ahead of tenants in line", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 40; i++) for (const who of ["b", "c"]) room.enter(entryOf(`${who}${i}`, who));
  let own = 0;
  for (let i = 0; i < 30; i++) {
    if (room.lengthOf("a") === 0) room.enter(entryOf(`a${i}`, "a"));
    const next = room.next(EVERYONE)?.entry ?? entryOf("nobody", "nobody");
    room.grant(next.attempt);
    if (next.tenant === "a") own += 1;
  }
  expect(own).toBe(10);
});

test("a capped tenant is not served, and is served again once it is below its cap", () => {
  const room = new WaitingRoom();
  for (let i = 0; i < 3; i++) for (const who of ["a", "b"]) room.enter(entryOf(`${who}${i}`, who));
  room.cap("a", true);
  expect(drain(room)).toEqual(["b0", "b1", "b2"]);
  room.cap("a", false);
  expect(drain(room)).toEqual(["a0", "a1", "a2"]);
});

test("a refunded grant makes the same waiter next again", () => {
  const property = fc.property(fc.integer({ min: 2, max: 6 }), exact, fc.nat({ max: 20 }), (length, by, served) => {
    const room = new WaitingRoom();
    for (const who of TENANTS) {
      for (let i = 0; i < length * 4; i++)
        room.enter(entryOf(`${i} of ${who}`, who, { weight: by[who] ?? 1, arrivedAt: i }));
    }
    for (let i = 0; i < Math.min(served, length * 4 - 2); i++) room.grant(room.next(EVERYONE)?.entry.attempt ?? "");
    for (let again = 0; again < 3; again++) {
      const next = room.next(EVERYONE)?.entry ?? entryOf("nobody", "nobody");
      room.grant(next.attempt);
      room.refund(next.tenant);
      room.enter(next);
      expect(room.next(EVERYONE)?.entry.attempt).toBe(next.attempt);
    }
  });
  fc.assert(property, { numRuns: 300 });
});

test("the oldest waiter is the one that arrived first, wherever it is in line", () => {
  const room = new WaitingRoom();
  expect(room.oldestAt()).toBeNull();
  room.enter(entryOf("low", "a", { priority: "low", arrivedAt: 5 }));
  room.enter(entryOf("high", "b", { priority: "high", arrivedAt: 9 }));
  expect(room.oldestAt()).toBe(5);
});
