/**
 * A Pool and its Cards without the platform: the real desk and card books, callers that do what the Worker does, and
 * messages between them that wait in a bag until the test delivers one (post.ts).
 */
import type { Clock } from "../../durable-objects/clock.ts";
import { Desk } from "../../durable-objects/desk.ts";
import type { Attempt } from "../../durable-objects/card-protocol.ts";
import type { Entry, Finish, PoolConfig, Priority } from "../../durable-objects/pool-protocol.ts";
import type { TicketState } from "../../durable-objects/ticket-state.ts";
import { FakeClock } from "./fake-clock.ts";
import { Post } from "./post.ts";
import { entryOf } from "./room-model.ts";
import { expectThat } from "./same.ts";
import { type How, SmallCaller } from "./small-caller.ts";
import { OTHER, SERVICE, SmallCard } from "./small-card.ts";

export interface Sizes {
  cards: number;
  slots: number;
  concurrent: number;
}

const RANKS: Priority[] = ["high", "normal", "low"];

const rank = ({ priority }: Entry): number => RANKS.indexOf(priority);

export class SmallPool {
  readonly clock = new FakeClock();
  readonly post = new Post();
  readonly cards: SmallCard[];
  readonly callers: SmallCaller[] = [];
  readonly sizes: Sizes;
  desk!: Desk;
  /** How a run succeeds: its answer is stored for others, or only its caller gets it. */
  answers: "stored" | "alone" = "stored";
  /** Attempts that started to run, in order. */
  readonly starts: { caller: SmallCaller; card: SmallCard; at: number; fingerprint: string | null }[] = [];
  readonly endings: { card: SmallCard; how: How; at: number }[] = [];
  /** Granted retries at another card. */
  retries = 0;
  restarts = 0;
  /** The clock has jumped forward. */
  hasJumped = false;
  /** Runs of the other service. */
  readonly others: { card: SmallCard; name: string; number: number }[] = [];
  #tickets = new WeakSet<TicketState>();
  /** Final replies, which must not change. */
  readonly #over = new Map<TicketState, TicketState["reply"]>();
  readonly #offered = new Set<string>();
  #die: () => void = () => undefined;
  #version = 0;

  constructor(sizes: Sizes) {
    this.sizes = sizes;
    const hear = (report: Parameters<Desk["report"]>[0]): boolean => {
      this.do((desk) => desk.report(report));
      return this.desk.attentive;
    };
    this.cards = Array.from(
      { length: sizes.cards },
      (_, i) => new SmallCard(`card ${i}`, sizes.slots, this.clock, this.post, hear),
    );
    this.#open();
  }

  /** Restarts the Pool, which loses all its memory. */
  restart(): void {
    this.restarts++;
    this.#die();
    this.#over.clear();
    this.#offered.clear();
    this.#open();
    for (const caller of this.callers) caller.broken();
  }

  configure(more: Partial<PoolConfig>): void {
    const cards = this.cards.map(({ name }) => ({ card: name, weight: 1 }));
    const queue = { max: 1_000, timeoutMs: 3_600_000 };
    const config = { version: ++this.#version, service: SERVICE, paused: false, queue, cards, ...more };
    this.do((desk) => desk.configure(config));
  }

  come(name: string, tenant: string, more: Partial<Entry> = {}): SmallCaller {
    const { concurrent } = this.sizes;
    const asked = { concurrent, arrivedAt: this.clock.now(), version: 0, ...more };
    const caller = new SmallCaller(this, name, entryOf(name, tenant, { request: name, ...asked }));
    this.callers.push(caller);
    return caller;
  }

  get running(): SmallCaller[] {
    return this.callers.filter((caller) => caller.run !== null);
  }

  /** Callers without a final outcome. */
  get open(): SmallCaller[] {
    return this.callers.filter((caller) => caller.words.length === 0);
  }

  /**
   * Whether a run of the same request was lost and the caller that restarted it failed and is trying once more: then
   * no other caller may run it.
   */
  isLastChance({ attempt, fingerprint }: Entry): boolean {
    const begun = this.starts.filter((start) => start.fingerprint === fingerprint).map(({ caller }) => caller);
    return [...this.desk.tickets].some(
      ({ entry }) =>
        entry.attempt !== attempt &&
        entry.fingerprint === fingerprint &&
        entry.avoid.length > 0 &&
        begun.some(({ name }) => name !== entry.request),
    );
  }

  /** Abandoned runs end on the GPU, and the card's agent reports it. */
  rest(card: SmallCard): void {
    const living = new Set([...this.running.map(({ entry }) => entry.attempt), ...this.others.map(({ name }) => name)]);
    for (const name of card.working) if (!living.has(name)) card.working.delete(name);
    card.beat();
  }

  /** Another service that shares the card takes a slot. */
  steal(card: SmallCard, name: string): void {
    const asked: Attempt = { attempt: name, request: name, tenant: "speaker", service: OTHER, fingerprint: null };
    const outcome = card.claim(asked);
    if ("no" in outcome) return;
    card.work(name);
    this.others.push({ card, name, number: outcome.number });
    // The holder renews the lease for as long as it has it.
    const renew = (): void => {
      if (!this.others.some((other) => other.name === name)) return;
      card.keep(card.book.renew(outcome.number, name, this.clock.now()).changed);
      this.clock.after(10_000, renew);
    };
    this.clock.after(10_000, renew);
  }

  giveBack(index: number): void {
    const [other] = this.others.splice(index % Math.max(1, this.others.length), 1);
    if (other === undefined) return;
    other.card.working.delete(other.name);
    other.card.release(other.number, other.name, { clean: true, health: "ok", reason: null });
  }

  /** Delivers all messages in flight and lets time pass, delivering the messages that this causes. */
  settle(ms = 0): void {
    this.post.settle();
    for (let passed = 0; passed < ms; passed += 50) {
      this.clock.pass(50);
      this.post.settle();
    }
  }

  // What callers and cards tell the desk

  do(call: (desk: Desk) => void): void {
    call(this.desk);
    this.#look();
  }

  /** Calls the desk for a ticket; tickets from before a restart are ignored. */
  at(ticket: TicketState, call: (desk: Desk) => void): void {
    if (this.#tickets.has(ticket)) this.do(call);
  }

  enter(entry: Entry): TicketState {
    const ticket = this.desk.enter(entry);
    this.#tickets.add(ticket);
    this.#look();
    return ticket;
  }

  retry(ticket: TicketState, attempt: string, avoid: string[]): boolean {
    if (!this.#tickets.has(ticket)) return true;
    const tried = ticket.entry.avoid.length;
    const isMore = ticket.phase !== "over" && ticket.entry.attempt !== attempt && avoid.length > tried;
    const allowed = this.desk.retry(ticket, attempt, avoid);
    if (allowed && isMore) this.retries++;
    this.#look();
    return allowed;
  }

  orphanFinished(attempt: string, finish: Finish): void {
    this.do((desk) => desk.orphanFinished(attempt, finish, null));
  }

  started(caller: SmallCaller, card: SmallCard): void {
    expectThat(card.working.size <= card.slots, `${card.name} runs ${card.working.size} on ${card.slots} slots`);
    expectThat(!caller.isGone, `${caller.name} left and is started`);
    this.starts.push({ caller, card, at: this.clock.passed, fingerprint: caller.entry.fingerprint });
  }

  ended(_caller: SmallCaller, card: SmallCard, how: How): void {
    this.endings.push({ card, how, at: this.clock.passed });
  }

  // Private

  #open(): void {
    let alive = true;
    this.#die = () => (alive = false);
    const clock: Clock = {
      now: () => this.clock.now(),
      after: (ms, then) => this.clock.after(ms, () => void (alive && (then(), this.#look()))),
    };
    const errands = { ask: (cards: string[]) => this.#ask(cards), departed: () => undefined, learned: () => undefined };
    this.#tickets = new WeakSet();
    this.desk = new Desk(clock, errands, null);
    this.configure({});
    this.#ask(this.cards.map(({ name }) => name));
  }

  #ask(names: string[]): void {
    const { desk } = this;
    for (const card of this.cards.filter(({ name }) => names.includes(name))) {
      const answer = (): void => {
        const report = card.report();
        card.listen();
        const arrive = (): void => void (desk === this.desk && this.do(() => desk.report(report)));
        this.post.send({ stream: `answer ${this.clock.passed} ${report.seq}`, arrive, lose: () => undefined });
      };
      this.post.send({ stream: `question to ${card.name}`, arrive: answer, lose: () => undefined });
    }
  }

  /** Checks what must hold after every call on the desk. */
  #look(): void {
    const { desk } = this;
    for (const caller of this.callers) if (caller.ticket !== null) this.#lookAt(caller.ticket);
    for (const ticket of desk.tickets) {
      const { attempt, tenant } = ticket.entry;
      if (ticket.phase !== "offered") this.#offered.delete(attempt);
      if (ticket.phase !== "offered" || this.#offered.has(attempt)) continue;
      this.#offered.add(attempt);
      const holding = desk.cards.holding(tenant);
      expectThat(holding <= ticket.entry.concurrent, `${tenant} is offered a slot and holds ${holding}`);
      const overtaken = [...desk.tickets].find((other) => this.#isBefore(other, ticket));
      expectThat(overtaken === undefined, `${attempt} is offered a slot before ${overtaken?.entry.attempt}`);
    }
  }

  #lookAt(ticket: TicketState): void {
    if (ticket.phase !== "over" || !this.#tickets.has(ticket)) return;
    const last = this.#over.get(ticket);
    if (last === undefined) this.#over.set(ticket, ticket.reply);
    else expectThat(last === ticket.reply, "a last word changed");
  }

  /** Whether another request of the same tenant waits that should have had this offer. */
  #isBefore(one: TicketState, other: TicketState): boolean {
    if (one.phase !== "waiting" || one.entry.tenant !== other.entry.tenant || one.entry.avoid.length > 0) return false;
    if (this.#isHeld(one.entry, other)) return false;
    const [a, b] = [one.entry, other.entry];
    return rank(a) < rank(b) || (rank(a) === rank(b) && a.arrivedAt < b.arrivedAt);
  }
  /** Whether another request holds the same run, so that this one follows it. */
  #isHeld({ fingerprint, ...entry }: Entry, but: TicketState): boolean {
    if (fingerprint === null) return false;
    const others = [...this.desk.tickets].filter(
      (ticket) => ticket !== but && ticket.entry.fingerprint === fingerprint,
    );
    if (others.some(({ phase }) => phase === "offered" || phase === "running")) return true;
    // A claim that came late, or whose ticket is lost.
    const leases = this.desk.cards.reports().flatMap(({ held }) => held);
    if (leases.some((held) => held.fingerprint === fingerprint && held.state === "leased")) return true;
    // A restart loses the tickets of runs; their callers are given time to report how they ended.
    if (this.restarts > 0) return true;
    return this.isLastChance({ ...entry, fingerprint });
  }
}
