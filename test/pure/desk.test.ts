/** The Pool's desk in isolation: its replies to rare sequences of calls. */
import { expect, test, vi } from "vitest";
import { Desk } from "../../durable-objects/desk.ts";
import { present } from "../../durable-objects/desk-view.ts";
import type { CardReport, BreakerState, Held } from "../../durable-objects/card-protocol.ts";
import type { Entry, PoolConfig } from "../../durable-objects/pool-protocol.ts";
import type { TicketState } from "../../durable-objects/ticket-state.ts";
import { FakeClock } from "./fake-clock.ts";
import { entryOf } from "./room-model.ts";

const SERVICE = "portrait";
const HOUR_MS = 3_600_000;
const OFFER_MS = 5_000;
const ASK_AGAIN_MS = 5_000;
const ORPHAN_MS = 5_000;
const RETURN_MS = 1_000;
const MEND_EVERY_MS = 5_000;
const CLOSED: BreakerState = { state: "closed", untilAt: 0, reason: null };

class Counter {
  readonly clock = new FakeClock();
  readonly asked: string[][] = [];
  readonly departed: string[] = [];
  readonly desk: Desk;
  #seq = 0;

  constructor(cards: string[], more: Partial<PoolConfig> = {}) {
    const errands = {
      ask: (names: string[]) => void this.asked.push(names),
      departed: ({ request }: Entry) => void this.departed.push(request),
      learned: () => undefined,
    };
    this.desk = new Desk(this.clock, errands, null);
    this.configure(cards, more);
  }

  /** `version` is the version of the cards' own configurations. */
  configure(cards: string[], more: Partial<PoolConfig> = {}, version = 1): void {
    const queue = { max: 100, timeoutMs: 60_000 };
    const listed = cards.map((card) => ({ card, weight: 1, version }));
    this.desk.configure({ version: 1, service: SERVICE, paused: false, queue, cards: listed, ...more });
  }

  enter(name: string, more: Partial<Entry> = {}): TicketState {
    const asked = { request: name, arrivedAt: this.clock.now(), ...more };
    return this.desk.enter(entryOf(name, more.tenant ?? "a", asked));
  }

  tell(card: string, held: string[], more: Partial<CardReport> & { fingerprint?: string } = {}): void {
    const { fingerprint = null, ...rest } = more;
    const shown = held.map((attempt, i): Held => {
      const who = { attempt, request: attempt, tenant: "a", service: SERVICE, fingerprint };
      return { number: i + 1, ...who, state: "leased", claimedAt: 0 };
    });
    const gates = { [SERVICE]: CLOSED };
    const base = {
      card,
      incarnation: 1,
      seq: ++this.#seq,
      version: 1,
      slots: 1,
      state: "active" as const,
      lastNumber: 0,
    };
    this.desk.report({ ...base, held: shown, gates, ...rest });
  }
}

test("nobody follows the earlier attempt of a retried request, although its card still shows it", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  const leader = counter.enter("first", { fingerprint: "same" });
  counter.desk.claimed(leader, 1);
  counter.tell("x", ["first"], { fingerprint: "same", lastNumber: 1 });
  expect(counter.desk.retry(leader, "second", ["x"])).toBe(true);
  counter.desk.left(leader);
  counter.tell("y", []);
  const next = counter.enter("next", { fingerprint: "same" });
  expect(next.reply).toEqual({ kind: "offer", card: "y", pressed: false, others: false, slotsLeft: 4 });
});

test("a clock that is set back does not make a ticket wait longer than the queue's timeout", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", []);
  const ticket = counter.enter("one");
  counter.clock.jump(-HOUR_MS);
  counter.desk.declined(ticket, "x", "full");
  expect(ticket.phase).toBe("waiting");
  counter.clock.pass(60_000);
  expect(ticket.reply).toMatchObject({ kind: "refused", refusal: { reason: "queue_timeout" } });
});

test("a follower of a run known only from a card's report keeps the desk asking that card", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", ["of before"], { fingerprint: "same", lastNumber: 1 });
  const follower = counter.enter("one", { fingerprint: "same" });
  expect([follower.phase, counter.desk.queued, counter.desk.attentive]).toEqual(["waiting", 1, true]);
  const before = counter.asked.length;
  counter.clock.pass(3 * ASK_AGAIN_MS);
  expect(counter.asked.length).toBeGreaterThanOrEqual(before + 3);
  // The run has ended and the card's report was lost; the answer to the desk's question reveals it.
  counter.tell("x", [], { lastNumber: 1 });
  counter.clock.pass(ORPHAN_MS);
  expect(follower.reply).toMatchObject({ kind: "offer", card: "x" });
});

test("a leader that ran on one card and then waits in vain for another has used up its run", () => {
  const counter = new Counter(["x"], { queue: { max: 100, timeoutMs: 10_000 } });
  counter.tell("x", []);
  const one = counter.enter("one", { fingerprint: "same", deadlineAt: counter.clock.now() + 10_000 });
  counter.desk.claimed(one, 1);
  counter.clock.pass(6_000);
  const two = counter.enter("two", { fingerprint: "same" });
  counter.clock.pass(1_000);
  const three = counter.enter("three", { fingerprint: "same" });
  counter.tell("x", ["another's"], { lastNumber: 1 });
  counter.desk.retry(one, "one again", ["x"]);
  counter.clock.pass(3_000);
  expect([one.reply, two.phase]).toMatchObject([{ kind: "refused", refusal: { reason: "queue_timeout" } }, "waiting"]);
  counter.tell("x", [], { lastNumber: 1 });
  counter.desk.claimed(two, 2);
  counter.desk.finished(two, { kind: "failed", reason: "origin_reset" }, null);
  expect(three.reply).toEqual({ kind: "told", finish: { kind: "failed", reason: "origin_reset" } });
});

test("a retry may wait for the full queue timeout: time on a card does not count as waiting", () => {
  const counter = new Counter(["x", "y"], { queue: { max: 100, timeoutMs: 10_000 } });
  counter.tell("x", []);
  counter.tell("y", ["busy"], { lastNumber: 1 });
  const ticket = counter.enter("one");
  counter.desk.claimed(ticket, 1);
  counter.clock.pass(15_000);
  counter.desk.retry(ticket, "one again", ["x"]);
  counter.clock.pass(9_000);
  expect(ticket.phase).toBe("waiting");
  counter.clock.pass(1_000);
  expect(ticket.reply).toMatchObject({ kind: "refused", refusal: { reason: "queue_timeout" } });
});

test("a follower waits as long as its leader has a card, but not beyond its own deadline", () => {
  const counter = new Counter(["x"], { queue: { max: 100, timeoutMs: 10_000 } });
  counter.tell("x", []);
  const leader = counter.enter("leader", { fingerprint: "same" });
  counter.desk.claimed(leader, 1);
  counter.tell("x", ["leader"], { fingerprint: "same", lastNumber: 1 });
  const follower = counter.enter("follower", { fingerprint: "same" });
  const hurried = counter.enter("hurried", { fingerprint: "same", deadlineAt: counter.clock.now() + 25_000 });
  counter.clock.pass(24_000);
  expect([follower.phase, hurried.phase]).toEqual(["waiting", "waiting"]);
  counter.clock.pass(1_000);
  expect([follower.phase, hurried.reply]).toMatchObject(["waiting", { refusal: { reason: "queue_timeout" } }]);
  counter.tell("x", ["another's"], { lastNumber: 1 });
  counter.desk.left(leader);
  counter.clock.pass(10_000);
  expect(follower.reply).toMatchObject({ kind: "refused", refusal: { reason: "queue_timeout" } });
});

test("a follower's position is its leader's position", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", ["busy"], { lastNumber: 1 });
  for (const name of ["one", "two"]) counter.enter(name);
  const leader = counter.enter("leader", { fingerprint: "same" });
  const follower = counter.enter("follower", { fingerprint: "same" });
  expect([leader, follower].map((ticket) => counter.desk.waitingOn(ticket).position)).toEqual([3, 3]);
});

test("while a slot is free, a request that may run leads an identical one of a tenant at its cap", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", [], { slots: 2 });
  counter.desk.claimed(counter.enter("running", { concurrent: 1 }), 1);
  const capped = counter.enter("capped", { concurrent: 1, fingerprint: "same", job: true });
  expect(capped.phase).toBe("waiting");
  const other = counter.enter("other", { tenant: "b", fingerprint: "same" });
  expect([other.reply, counter.desk.queued]).toMatchObject([{ kind: "offer", card: "x" }, 1]);
  counter.desk.claimed(other, 2);
  counter.desk.finished(other, { kind: "stored" }, null);
  expect(capped.reply).toEqual({ kind: "told", finish: { kind: "stored" } });
});

test("a call goes before an identical earlier job of its tenant, and before later requests", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", ["busy"], { lastNumber: 1 });
  const job = counter.enter("job", { fingerprint: "same", job: true, priority: "low" });
  const call = counter.enter("call", { fingerprint: "same" });
  const later = counter.enter("later");
  expect([counter.desk.waitingOn(call).position, counter.desk.queued]).toEqual([1, 3]);
  counter.tell("x", [], { lastNumber: 1 });
  expect([job, call, later].map(({ phase }) => phase)).toEqual(["waiting", "offered", "waiting"]);
});

test("after a declined or missed offer, all identical requests wait again, each in its own turn", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  counter.tell("y", ["busy"], { lastNumber: 1 });
  const one = counter.enter("one", { concurrent: 2, fingerprint: "same" });
  const two = counter.enter("two", { tenant: "b", fingerprint: "same" });
  const third = counter.enter("third", { tenant: "b", fingerprint: "same" });
  counter.desk.declined(one, "x", "full");
  expect([one, two, third].map(({ phase }) => phase)).toEqual(["waiting", "waiting", "waiting"]);
  // Two other runs bring tenant a to its cap, so the free slot goes to tenant b.
  counter.tell("y", ["busy", "busy too"], { lastNumber: 2 });
  counter.tell("x", []);
  expect([one, two, third].map(({ phase }) => phase)).toEqual(["waiting", "offered", "waiting"]);
  counter.clock.pass(OFFER_MS);
  expect([one, two, third].map(({ phase }) => phase)).toEqual(["waiting", "missed", "offered"]);
  counter.desk.asked(two);
  counter.desk.claimed(third, 1);
  counter.desk.finished(third, { kind: "stored" }, null);
  for (const { reply } of [one, two]) expect(reply).toEqual({ kind: "told", finish: { kind: "stored" } });
});

test("a failed leader that waits at its cap is overtaken once, and the leader after it is the last to try", () => {
  const counter = new Counter(["x", "y", "z"]);
  for (const card of ["y", "z"]) counter.tell(card, ["busy"], { lastNumber: 1 });
  counter.tell("x", []);
  const one = counter.enter("one", { tenant: "c", concurrent: 1, fingerprint: "same" });
  const two = counter.enter("two", { tenant: "b", concurrent: 1, fingerprint: "same" });
  counter.desk.claimed(one, 1);
  // The leader's slot drains.
  const drains = { number: 1, attempt: "one", request: "one", tenant: "c", service: SERVICE, fingerprint: "same" };
  counter.tell("x", [], { held: [{ ...drains, state: "draining", claimedAt: 0 }], lastNumber: 1 });
  counter.desk.retry(one, "one again", ["x"]);
  counter.tell("y", [], { lastNumber: 1 });
  expect([one.phase, two.phase, two.card]).toEqual(["waiting", "offered", "y"]);
  counter.desk.claimed(two, 2);
  const three = counter.enter("three", { tenant: "d", fingerprint: "same" });
  counter.tell("y", ["busy"], { lastNumber: 2 });
  counter.desk.retry(two, "two again", ["y"]);
  counter.tell("x", [], { lastNumber: 1 });
  expect([one, two, three].map(({ phase }) => phase)).toEqual(["waiting", "offered", "waiting"]);
  counter.desk.finished(two, { kind: "failed", reason: "origin_reset" }, null);
  for (const { reply } of [one, three])
    expect(reply).toEqual({ kind: "told", finish: { kind: "failed", reason: "origin_reset" } });
});

test("a request that claims after its offer was withdrawn runs by itself, and nobody waits for both runs", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  const one = counter.enter("one", { fingerprint: "same" });
  const two = counter.enter("two", { tenant: "b", fingerprint: "same" });
  const three = counter.enter("three", { tenant: "c", fingerprint: "same" });
  counter.clock.pass(OFFER_MS);
  expect([one.phase, two.phase]).toEqual(["missed", "offered"]);
  counter.desk.claimed(one, 1);
  counter.desk.finished(one, { kind: "failed", reason: "origin_reset" }, null);
  expect([two.phase, three.phase]).toEqual(["offered", "waiting"]);
  counter.desk.claimed(two, 2);
  counter.desk.finished(two, { kind: "stored" }, null);
  expect(three.reply).toEqual({ kind: "told", finish: { kind: "stored" } });
});

test("a request identical to a waiting job is refused like any other when no card takes work", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", [], { state: "disabled" });
  const job = counter.enter("job", { fingerprint: "same", job: true });
  const call = counter.enter("call", { fingerprint: "same" });
  expect([job.phase, call.reply]).toMatchObject(["waiting", { refusal: { reason: "no_healthy_card" } }]);
});

test("an unclaimed offer goes to the next ticket once, and its own ticket leaves the line until it asks again", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", []);
  const one = counter.enter("one");
  counter.clock.pass(1_000);
  const two = counter.enter("two");
  expect([one.phase, two.phase]).toEqual(["offered", "waiting"]);
  counter.clock.pass(OFFER_MS - 1_000);
  expect([one.phase, one.reply, two.phase]).toEqual(["missed", null, "offered"]);
  counter.clock.pass(OFFER_MS);
  expect([one.phase, two.phase]).toEqual(["missed", "missed"]);
  counter.desk.asked(one);
  counter.desk.asked(one);
  expect([one.phase, two.phase]).toEqual(["offered", "missed"]);
});

test("every repeated call has the effect of one call", () => {
  const counter = new Counter(["x", "y"]);
  for (const card of ["x", "y"]) counter.tell(card, []);
  const ticket = counter.enter("one");
  expect(counter.enter("one")).toBe(ticket);
  const card = ticket.card ?? "";
  for (let twice = 0; twice < 2; twice++) counter.desk.declined(ticket, card, "full");
  expect([ticket.phase, ticket.card === card, counter.desk.cards.holding("a")]).toEqual(["offered", false, 1]);
  for (let twice = 0; twice < 2; twice++) counter.desk.claimed(ticket, 1);
  expect([ticket.phase, counter.desk.admitted, counter.desk.cards.holding("a")]).toEqual(["running", 1, 1]);
  counter.tell(ticket.card ?? "", [], { lastNumber: 1 });
  const [again, once] = [counter.desk.retry(ticket, "two", [card]), counter.desk.retry(ticket, "two", [card])];
  expect([again, once, [...counter.desk.tickets].length]).toEqual([true, true, 1]);
  for (let twice = 0; twice < 2; twice++) counter.desk.finished(ticket, { kind: "failed", reason: "x" }, null);
  for (let twice = 0; twice < 2; twice++) counter.desk.left(ticket);
  expect([[...counter.desk.tickets], counter.departed]).toEqual([[], []]);
});

test("a request refused by a full waiting room leaves no offer behind", () => {
  const counter = new Counter(["x"], { queue: { max: 2, timeoutMs: 60_000 } });
  counter.tell("x", ["busy"], { lastNumber: 1 });
  const waiting = [counter.enter("one"), counter.enter("two")];
  const late = counter.enter("three");
  expect(late.reply).toMatchObject({ kind: "refused", refusal: { reason: "queue_full", length: 2, max: 2 } });
  const other = counter.enter("four", { tenant: "b" });
  expect(waiting.map(({ phase }) => phase)).toEqual(["waiting", "over"]);
  expect([other.phase, counter.desk.queued]).toEqual(["waiting", 2]);
  counter.tell("x", [], { lastNumber: 1 });
  expect([waiting[0]?.phase, counter.desk.cards.holding("a")]).toEqual(["offered", 1]);
});

test("a desk keeps no state of two thousand finished requests", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", []);
  for (let i = 0; i < 2_000; i++) {
    const ticket = counter.enter(`request ${i}`, { tenant: `tenant ${i % 50}`, fingerprint: `same ${i}` });
    counter.desk.claimed(ticket, i + 1);
    counter.tell("x", [], { lastNumber: i + 1 });
    counter.desk.finished(ticket, { kind: "stored" }, null);
  }
  expect([[...counter.desk.tickets], counter.desk.queued, counter.clock.timers]).toEqual([[], 0, 0]);
  for (let i = 0; i < 50; i++) expect(counter.desk.cards.holding(`tenant ${i}`)).toBe(0);
});

test("a request for which a slot is free waits for nothing", () => {
  const counter = new Counter(["x"]);
  const { desk } = counter;
  const waits = (tenant: string) => desk.outlook("a job that has not come yet", tenant, 1).waiting;
  counter.tell("x", []);
  expect(waits("a")).toEqual({ on: null, position: 1, startMs: 0 });
  const first = counter.enter("first", { concurrent: 1 });
  // The offered slot counts toward the tenant's cap, but the request does not wait for it.
  expect([first.phase, desk.waitingOn(first).on]).toEqual(["offered", null]);
  expect([desk.outlook("first", "a", 1).waiting?.on, waits("a")?.on, waits("b")?.on]).toEqual([
    null,
    "tenant_cap",
    "slots_busy",
  ]);
  desk.claimed(first, 1);
  counter.tell("x", ["first"], { lastNumber: 1 });
  const second = counter.enter("second", { tenant: "b" });
  expect([desk.waitingOn(second).on, waits("b")]).toEqual([
    "slots_busy",
    { on: "slots_busy", position: 2, startMs: null },
  ]);
  counter.tell("x", [], { lastNumber: 1 });
  expect([second.phase, desk.waitingOn(second).on]).toEqual(["offered", null]);
});

test("a free slot on a card that failed a request is not free for it while another card takes work", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  counter.tell("y", ["busy"], { lastNumber: 1 });
  const one = counter.enter("one", { concurrent: 9 });
  counter.desk.claimed(one, 1);
  counter.desk.retry(one, "one again", ["x"]);
  counter.tell("x", [], { lastNumber: 1 });
  expect([one.phase, counter.desk.waitingOn(one).on]).toEqual(["waiting", "slots_busy"]);
});

test("all ten thousand waiting leaders are refused when the last card stops working", () => {
  const counter = new Counter(["x"], { queue: { max: 20_000, timeoutMs: 60_000 } });
  const leaders = 10_000;
  counter.tell("x", [], { slots: leaders });
  const all = Array.from({ length: leaders }, (_, i) =>
    counter.enter(`leader ${i}`, { tenant: `tenant ${i}`, fingerprint: `same ${i}`, waiting: leaders }),
  );
  for (const [i, ticket] of all.entries()) counter.desk.claimed(ticket, i + 1);
  counter.tell("x", ["busy"], { lastNumber: leaders });
  for (const ticket of all) counter.desk.retry(ticket, `${ticket.entry.attempt} again`, []);
  expect(all.every(({ phase }) => phase === "waiting")).toBe(true);
  counter.tell("x", ["busy"], { lastNumber: leaders, state: "disabled" });
  expect(counter.desk.refused).toEqual({ no_healthy_card: leaders });
});

test("a thousand tickets that have tried the only free card do not block a ticket that has not", () => {
  const counter = new Counter(["x", "y"], { queue: { max: 2_000, timeoutMs: 60_000 } });
  for (const card of ["x", "y"]) counter.tell(card, ["busy"], { lastNumber: 1 });
  for (let i = 0; i < 1_000; i++) counter.enter(`tried ${i}`, { avoid: ["x"], again: true });
  const fresh = counter.enter("fresh");
  counter.tell("x", [], { lastNumber: 1 });
  expect([fresh.phase, fresh.card]).toEqual(["offered", "x"]);
});

test("a request that follows an unshared run does not wait for that run's retry", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  counter.tell("y", ["busy"], { lastNumber: 1 });
  const leader = counter.enter("leader", { fingerprint: "same" });
  counter.desk.claimed(leader, 1);
  const alone = counter.enter("alone", { tenant: "b", fingerprint: "same" });
  counter.desk.finished(leader, { kind: "alone" }, null);
  counter.tell("x", [], { lastNumber: 1 });
  counter.desk.claimed(alone, 2);
  // The card's report shows the fingerprint, although the ticket has none any more.
  counter.tell("x", ["alone"], { fingerprint: "same", lastNumber: 2 });
  const follower = counter.enter("follower", { tenant: "c", fingerprint: "same" });
  expect(follower.phase).toBe("waiting");
  counter.tell("x", [], { lastNumber: 2 });
  counter.desk.retry(alone, "alone again", ["x"]);
  expect([alone.phase, follower.phase, follower.card]).toEqual(["waiting", "offered", "x"]);
});

test("when a card is removed, a run known only from its report ends for its followers", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", ["of before"], { fingerprint: "same", lastNumber: 1 });
  counter.tell("y", []);
  const job = counter.enter("job", { fingerprint: "same", job: true });
  expect(job.phase).toBe("waiting");
  counter.configure(["y"], { version: 2 });
  counter.clock.pass(ORPHAN_MS);
  expect(job.reply).toMatchObject({ kind: "offer", card: "y" });
});

test("a follower of a failed leader that waits for its last attempt is refused at the queue's timeout", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", []);
  counter.tell("y", ["busy"], { lastNumber: 1 });
  const first = counter.enter("first", { fingerprint: "same" });
  counter.desk.claimed(first, 1);
  const job = counter.enter("job", { tenant: "b", fingerprint: "same", job: true });
  counter.desk.finished(first, { kind: "failed", reason: "origin_reset" }, null);
  counter.tell("x", [], { lastNumber: 1 });
  counter.desk.claimed(job, 2);
  const call = counter.enter("call", { tenant: "c", fingerprint: "same" });
  counter.tell("x", ["busy"], { lastNumber: 3 });
  counter.desk.retry(job, "job again", ["x"]);
  expect([job.phase, call.phase]).toEqual(["waiting", "waiting"]);
  counter.clock.pass(60_000);
  expect([job.phase, call.reply]).toMatchObject(["waiting", { refusal: { reason: "queue_timeout" } }]);
});

test("a departure is reported a second later, unless the request has entered again", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", ["busy"], { lastNumber: 1 });
  for (const name of ["gone", "back"]) counter.desk.left(counter.enter(name));
  counter.clock.pass(RETURN_MS - 1);
  expect(counter.departed).toEqual([]);
  counter.enter("back", { again: true });
  counter.clock.pass(1);
  expect(counter.departed).toEqual(["gone"]);
  counter.clock.pass(RETURN_MS);
  expect([counter.departed, counter.desk.queued]).toEqual([["gone"], 1]);
});

test.each([
  ["does not list the service", { version: 2, gates: {} }],
  ["is older than the Pool's", { version: 1 }],
] as const)("a request every 5 s is told to provision while a card's configuration %s", (_, report) => {
  const counter = new Counter([]);
  counter.configure(["x", "y"], { version: 2 }, 2);
  counter.tell("x", [], { version: 2 });
  counter.tell("y", [], report);
  const kinds = (name: string) => [`${name} a`, `${name} b`].map((each) => counter.enter(each).reply?.kind);
  expect(kinds("first")).toEqual(["behind", "offer"]);
  counter.clock.pass(MEND_EVERY_MS);
  expect(kinds("later")[0]).toBe("behind");
  counter.tell("y", [], { version: 2 });
  counter.clock.pass(MEND_EVERY_MS);
  expect(kinds("mended")).not.toContain("behind");
});

test("requests refused because no card works make the desk ask the cards, at most every 5 s", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", [], { state: "disabled" });
  const asked = () => {
    counter.asked.length = 0;
    for (const name of ["one", "two"])
      expect(counter.enter(name).reply).toMatchObject({ refusal: { reason: "no_healthy_card" } });
    return counter.asked;
  };
  expect(asked()).toEqual([["x"]]);
  expect(asked()).toEqual([]);
  counter.clock.pass(MEND_EVERY_MS);
  expect(asked()).toEqual([["x"]]);
  // An open breaker closes by itself: its card is tried when its time has come.
  counter.clock.pass(MEND_EVERY_MS);
  const untilAt = counter.clock.now() + HOUR_MS;
  counter.tell("x", [], { gates: { [SERVICE]: { state: "open", untilAt, reason: "origin_reset", proven: true } } });
  expect(asked()).toEqual([]);
});

test("requests are present by their tickets, or by a card's report if their ticket was lost", () => {
  const counter = new Counter(["x", "y"]);
  counter.tell("x", ["of before"], { lastNumber: 1 });
  counter.tell("y", []);
  counter.desk.claimed(counter.enter("running"), 1);
  counter.enter("waiting");
  counter.desk.left(counter.enter("gone"));
  expect(present(counter.desk, ["of before", "running", "waiting", "gone", "unknown"])).toEqual({
    "of before": { state: "running", on: null, position: null },
    running: { state: "running", on: null, position: null },
    waiting: { state: "queued", on: "slots_busy", position: 1 },
  });
});

test("the presence of requests with a ticket is determined without reading the cards", () => {
  const counter = new Counter(["x"]);
  counter.tell("x", ["busy"], { lastNumber: 1 });
  counter.enter("waiting");
  vi.spyOn(counter.desk.cards, "reports").mockImplementation(() => {
    throw new Error("all cards were read");
  });
  expect(present(counter.desk, ["waiting"])).toMatchObject({ waiting: { position: 1 } });
});
