/**
 * Cards, their reports and a line, put together from the pure files alone: a Pool and its Cards without the platform.
 * Messages between them lie in a bag until the test takes one out, so that they may come late and in any order.
 */
import type { CardReport } from "../../durable-objects/protocol.ts";
import { Cards } from "../../durable-objects/choose-card.ts";
import { Slots } from "../../durable-objects/slots.ts";
import { WaitingRoom } from "../../durable-objects/waiting-room.ts";
import { entryOf } from "./room-model.ts";
import { attempt, CLEAN, UNCLEAN } from "./slots-model.ts";

const SERVICE = "portrait";
const DRAIN_MS = 60_000;

interface SmallCard {
  name: string;
  slots: Slots;
  seq: number;
  /** Requests at work on the GPU: the oracle, whatever anybody counts. */
  working: Set<string>;
}

export class SmallPool {
  now = 1_000_000;
  readonly room = new WaitingRoom();
  readonly counts = new Cards(SERVICE);
  readonly cards: SmallCard[];
  readonly slotsEach: number;
  readonly concurrent: number;
  /** What is under way: replies, claims, reports. */
  readonly bag: (() => void)[] = [];
  readonly running = new Map<string, { card: SmallCard; number: number; tenant: string }>();
  readonly served: string[] = [];
  readonly left = new Set<string>();
  /** The most that a GPU ever ran at once. */
  highest = 0;

  constructor(cards: number, slotsEach: number, concurrent: number) {
    this.slotsEach = slotsEach;
    this.concurrent = concurrent;
    this.cards = Array.from({ length: cards }, (_, i) => ({
      name: `card ${i}`,
      slots: new Slots(),
      seq: 0,
      working: new Set(),
    }));
    this.counts.configure(
      this.cards.map(({ name }) => ({ card: name, weight: 1 })),
      this.now,
    );
    for (const card of this.cards) this.tell(card);
  }

  enter(name: string, tenant: string): void {
    this.room.enter(entryOf(name, tenant, { concurrent: this.concurrent, arrivedAt: this.now }));
    this.#recap(tenant);
    this.pump();
  }

  /** Somebody in line hangs up. */
  leave(name: string): void {
    if (!this.room.leave(name)) return;
    this.left.add(name);
    this.pump();
  }

  /** A run ends; its holder's word frees the slot, or leaves it draining while the GPU works on for a while. */
  end(name: string, clean: boolean): void {
    const run = this.running.get(name);
    if (run === undefined) return;
    this.running.delete(name);
    this.served.push(name);
    run.card.slots.release(run.number, name, clean ? CLEAN : UNCLEAN, this.now);
    if (clean) run.card.working.delete(name);
    this.tell(run.card);
  }

  /** What was left behind ends on the GPU, and its slot with it. */
  drain(card: SmallCard): void {
    for (const name of card.working) if (!this.running.has(name)) card.working.delete(name);
    for (let reports = 0; reports < 2; reports++) card.slots.hear(card.working.size, null);
    this.tell(card);
  }

  /** A card's state as it is now, put into the bag. */
  tell(card: SmallCard): void {
    const held = card.slots.held.map((lease) => ({
      ...lease,
      state: lease.state === "draining" ? ("draining" as const) : ("leased" as const),
    }));
    const report: CardReport = {
      card: card.name,
      incarnation: 1,
      seq: ++card.seq,
      version: 1,
      slots: this.slotsEach,
      state: "active",
      lastNumber: card.slots.lastNumber,
      held,
      gates: { [SERVICE]: { state: "closed", untilAt: 0, reason: null } },
    };
    this.bag.push(() => {
      if (this.counts.report(report, this.now)) this.pump();
    });
  }

  /** Offers what is free to who is next, until nothing is free or nobody suits. */
  pump(): void {
    for (;;) {
      for (const tenant of this.counts.changed()) this.#recap(tenant);
      const match = this.room.next((entry) => this.counts.best(entry.avoid, this.now));
      if (match === null) return;
      const { entry, found } = match;
      this.room.grant(entry.attempt);
      this.counts.offered(found, entry.attempt, entry.tenant, this.now);
      this.bag.push(() => this.#claim(entry.attempt, entry.tenant, found));
    }
  }

  /** Takes one message out of the bag and lets it happen. */
  deliver(pick: number): void {
    const [message] = this.bag.splice(pick % Math.max(1, this.bag.length), 1);
    message?.();
  }

  /** Lets everything happen that is under way. */
  settle(): void {
    while (this.bag.length > 0) this.deliver(0);
  }

  #claim(name: string, tenant: string, cardName: string): void {
    const card = this.cards.find((one) => one.name === cardName);
    if (card === undefined) throw new Error("an offer of no card");
    const outcome = card.slots.claim({ ...attempt(name), tenant }, this.slotsEach, DRAIN_MS, this.now);
    if ("no" in outcome) {
      this.bag.push(() => this.#declined(name, tenant, card));
      return;
    }
    card.working.add(name);
    this.highest = Math.max(this.highest, card.working.size);
    this.running.set(name, { card, number: outcome.lease.number, tenant });
    this.tell(card);
    this.bag.push(() => this.#claimed(name, cardName, outcome.lease.number));
  }

  /** The word of a claim may come after the report of its end: then it is what frees the slot in the counts. */
  #claimed(name: string, card: string, number: number): void {
    this.counts.claimed(card, name, number, this.now);
    this.pump();
  }

  #declined(name: string, tenant: string, card: SmallCard): void {
    this.counts.withdrawn(card.name, name, this.now);
    this.room.refund(tenant);
    this.counts.refused(card.name);
    this.tell(card);
    this.enter(name, tenant);
  }

  #recap(tenant: string): void {
    this.room.cap(tenant, this.counts.holding(tenant) >= this.concurrent);
  }
}
