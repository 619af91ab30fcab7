/**
 * The Pool's decisions without the platform: the Desk with its line and its counts of the cards, fed with the reports
 * that cards would send. One cycle is the cost of one request: a ticket enters, a card reports a free slot, the slot is
 * offered to the next in line, and that ticket claims it.
 */
import { Timers } from "../durable-objects/clock.ts";
import { Desk } from "../durable-objects/desk.ts";
import type { CardReport, Held } from "../durable-objects/card-protocol.ts";
import type { Entry, PoolConfig } from "../durable-objects/pool-protocol.ts";
import type { TicketState } from "../durable-objects/ticket-state.ts";
import { mean, percentile } from "./figures.ts";

const SERVICE = "portrait";
const SLOTS_EACH = 2;
const QUEUE_MAX = 1_000_000;
/** Cycles that are timed together, and warm-up blocks that are not timed, so that the code is compiled. */
const BLOCK = 50;
const WARM_BLOCKS = 20;

export interface Size {
  waiting: number;
  tenants: number;
  cards: number;
}

export interface DeskTimes extends Size {
  /** Median over blocks of cycles, microseconds. */
  enterUs: number;
  offerUs: number;
  claimUs: number;
  cycleUs: number;
}

interface Run {
  ticket: TicketState;
  card: SmallCard;
  held: Held;
}

interface SmallCard {
  name: string;
  seq: number;
  lastNumber: number;
  held: Held[];
}

class DeskInMotion {
  /** The Pool's own clock, so that the figures include the cost of waiters' timers. */
  readonly #clock = new Timers();
  readonly #desk: Desk;
  readonly #cards = new Map<string, SmallCard>();
  readonly #offered: TicketState[] = [];
  /** Oldest first. */
  #running: Run[] = [];
  readonly #config: PoolConfig;
  readonly #tenants: number;
  #entered = 0;

  constructor({ waiting, tenants, cards }: Size) {
    this.#tenants = tenants;
    this.#desk = new Desk(this.#clock, { ask: () => {}, departed: () => {}, learned: () => {} }, null);
    const listed = Array.from({ length: cards }, (_, i) => ({ card: `card ${i}`, weight: 1 }));
    const queue = { max: QUEUE_MAX, timeoutMs: 60_000 };
    this.#config = { version: 1, service: SERVICE, paused: false, queue, cards: listed };
    this.#desk.configure(this.#config);
    for (const { card: name } of listed) {
      const card = { name, seq: 0, lastNumber: 0, held: [] };
      this.#cards.set(name, card);
      this.#desk.report(reportOf(card));
    }
    for (let i = 0; i < waiting + cards * SLOTS_EACH; i++) this.enter();
    this.claim();
    if (this.#desk.queued !== waiting) throw new Error(`${this.#desk.queued} wait, not ${waiting}`);
  }

  enter(): void {
    const ticket = this.#desk.enter(entryOf(this.#entered++, this.#tenants, this.#clock.now()));
    if (ticket.reply === null) ticket.waiters.add(() => this.#offered.push(ticket));
    else this.#offered.push(ticket);
  }

  /** Ends the oldest run: its card reports, and the slot is offered to the next in line. */
  end(): void {
    const run = this.#running.shift();
    if (run === undefined) throw new Error("nothing runs");
    const { card, held, ticket } = run;
    card.held = card.held.filter((one) => one !== held);
    this.#desk.finished(ticket, { kind: "stored" }, { firstByteMs: 300, totalMs: 300 });
    this.#desk.report(reportOf(card));
  }

  /** Removes all tickets and their timers, which would otherwise keep this process alive. */
  clear(): void {
    this.#desk.configure({ ...this.#config, paused: true });
    for (const ticket of this.#desk.tickets) this.#desk.left(ticket);
  }

  /** Claims every offered slot. Returns their number. */
  claim(): number {
    const offered = this.#offered.splice(0);
    for (const ticket of offered) {
      const card = this.#cards.get(ticket.card ?? "");
      if (card === undefined) throw new Error(`no offer: ${JSON.stringify(ticket.reply)}`);
      const { attempt, request, tenant, fingerprint } = ticket.entry;
      const number = ++card.lastNumber;
      const state = "leased" as const;
      const held = {
        number,
        attempt,
        request,
        tenant,
        service: SERVICE,
        fingerprint,
        state,
        claimedAt: this.#clock.now(),
      };
      card.held = [...card.held, held];
      this.#running.push({ ticket, card, held });
      this.#desk.claimed(ticket, number);
    }
    return offered.length;
  }
}

function entryOf(count: number, tenants: number, arrivedAt: number): Entry {
  const attempt = `attempt ${count}`;
  return {
    attempt,
    request: attempt,
    tenant: `tenant ${count % tenants}`,
    weight: 1,
    concurrent: QUEUE_MAX,
    waiting: QUEUE_MAX,
    priority: "normal",
    arrivedAt,
    deadlineAt: null,
    fingerprint: null,
    avoid: [],
    again: false,
    job: false,
    version: 1,
  };
}

function reportOf(card: SmallCard): CardReport {
  return {
    card: card.name,
    incarnation: 1,
    seq: ++card.seq,
    version: 1,
    slots: SLOTS_EACH,
    state: "active",
    lastNumber: card.lastNumber,
    held: card.held,
    gates: { [SERVICE]: { state: "closed", untilAt: 0, reason: null } },
  };
}

/** Times the steps of a cycle with a constant number of waiting tickets. */
export function timeDesk(size: Size, blocks: number): DeskTimes {
  const motion = new DeskInMotion(size);
  const times: { enter: number; offer: number; claim: number }[] = [];
  for (let i = -WARM_BLOCKS; i < blocks; i++) {
    const block = timeBlock(motion);
    if (i >= 0) times.push(block);
  }
  motion.clear();
  const median = (of: (block: (typeof times)[number]) => number) =>
    percentile(
      times.map(of).toSorted((a, b) => a - b),
      0.5,
    ) ?? Number.NaN;
  const [enterUs, offerUs, claimUs] = [median((b) => b.enter), median((b) => b.offer), median((b) => b.claim)];
  return { ...size, enterUs, offerUs, claimUs, cycleUs: median((b) => b.enter + b.offer + b.claim) };
}

function timeBlock(motion: DeskInMotion): { enter: number; offer: number; claim: number } {
  const enter: number[] = [];
  const offer: number[] = [];
  const claim: number[] = [];
  for (let i = 0; i < BLOCK; i++) {
    const t0 = performance.now();
    motion.enter();
    const t1 = performance.now();
    motion.end();
    const t2 = performance.now();
    const claimed = motion.claim();
    const t3 = performance.now();
    if (claimed !== 1) throw new Error(`${claimed} claimed one slot`);
    enter.push(t1 - t0);
    offer.push(t2 - t1);
    claim.push(t3 - t2);
  }
  return { enter: mean(enter) * 1000, offer: mean(offer) * 1000, claim: mean(claim) * 1000 };
}
