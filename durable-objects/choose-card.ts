/**
 * Which card is offered next (card-order.ts), and how many slots each tenant holds. These are the Pool's own counts:
 * advisory, and corrected by every report. Pure; `now` is an argument. Offers and reports are logarithmic in the number
 * of cards; queries over all cards, for refusals and status (capacity, the cause of an outage), are linear.
 */
import { Addresses, type RequestRef } from "./addresses.ts";
import { CardOrder, newSeat, type Seat, takesWork } from "./card-order.ts";
import type { CardReport } from "./card-protocol.ts";
import type { PoolCard } from "./pool-protocol.ts";

export class Cards {
  readonly #service: string;
  /** Counts the slots that are held or about to be claimed, by client address. */
  readonly #addresses: Addresses;
  readonly #seats = new Map<string, Seat>();
  readonly #order = new CardOrder();
  /** Slots that each tenant holds for this service: leased, draining, or about to be claimed. */
  readonly #holding = new Map<string, number>();
  /** Attempts that reports show running, by fingerprint. */
  readonly #prints = new Map<string, Set<string>>();
  /** Cards that missed their latest configuration: their report shows an older version, or lacks this service. */
  readonly #behind = new Set<string>();
  #changed = new Set<string>();
  #seq = 0;

  constructor(service: string, addresses = new Addresses()) {
    this.#service = service;
    this.#addresses = addresses;
  }

  /** Sets the cards of the pool. Cards that remain keep their state. */
  configure(cards: PoolCard[], now: number): void {
    const listed = new Map(cards.map((card) => [card.card, card]));
    for (const seat of this.#seats.values()) {
      if (listed.has(seat.card)) continue;
      this.#order.remove(seat);
      this.#count(seat, -1);
      this.#seats.delete(seat.card);
      this.#behind.delete(seat.card);
    }
    for (const { card, weight, version = 0 } of listed.values()) {
      const seat = this.#seats.get(card) ?? newSeat(card, weight);
      seat.weight = weight;
      seat.version = version;
      this.#compare(seat);
      this.#seats.set(card, seat);
      this.#order.file(seat);
    }
    this.#order.pass(now);
  }

  /** Applies a report if it is newer than the last one. Returns whether it was. */
  report(report: CardReport, now: number): boolean {
    const seat = this.#seats.get(report.card);
    if (seat === undefined) return false;
    const known = seat.report;
    if (
      known !== null &&
      (report.incarnation < known.incarnation || (report.incarnation === known.incarnation && report.seq <= known.seq))
    ) {
      return false;
    }
    this.#count(seat, -1);
    seat.report = report;
    seat.refused = false;
    seat.running = report.held.filter((held) => held.service === this.#service && held.state === "leased").length;
    seat.gate = report.gates[this.#service] ?? { state: "open", untilAt: Number.POSITIVE_INFINITY, reason: "unlisted" };
    this.#compare(seat);
    for (const [attempt, { number }] of seat.pending) {
      const shown = report.held.some((held) => held.attempt === attempt);
      if (shown || (number !== null && number <= report.lastNumber)) seat.pending.delete(attempt);
    }
    this.#count(seat, 1);
    this.#order.file(seat);
    this.#order.pass(now);
    return true;
  }

  /** The best free card that was not tried. Tried cards qualify only if no other card takes work. */
  best(tried: string[], now: number): string | null {
    this.#order.pass(now);
    // `tried` is short: at most as many cards as the service allows tries.
    const avoid = tried.length > 0 && this.#othersTakeWork(tried) ? tried : [];
    for (const seat of this.#order.free()) {
      if (!avoid.includes(seat.card)) return seat.card;
    }
    return null;
  }

  /** Whether the card is out on suspicion and should be tried early. */
  isTriedEarly(card: string): boolean {
    return this.#seats.get(card)?.pressed ?? false;
  }

  offered(
    card: string,
    attempt: string,
    tenant: string,
    now: number,
    by: RequestRef = { request: attempt, tenant },
  ): void {
    const seat = this.#seats.get(card);
    if (seat === undefined) return;
    this.#drop(seat, attempt);
    seat.pending.set(attempt, { number: null, by });
    this.#add(by, 1);
    seat.usedSeq = ++this.#seq;
    this.#order.file(seat);
    this.#order.pass(now);
  }

  /** The Card granted the claim. Returns true if its report already shows the run ended and the slot free. */
  claimed(card: string, attempt: string, number: number, now: number): boolean {
    const seat = this.#seats.get(card);
    const pending = seat?.pending.get(attempt);
    if (seat === undefined || pending === undefined) return false;
    const isOver = number <= (seat.report?.lastNumber ?? 0);
    if (isOver) this.#drop(seat, attempt);
    else pending.number = number;
    this.#order.file(seat);
    this.#order.pass(now);
    return isOver;
  }

  /** The offer was declined or expired. */
  withdrawn(card: string, attempt: string, now: number): void {
    const seat = this.#seats.get(card);
    if (seat === undefined || !this.#drop(seat, attempt)) return;
    this.#order.file(seat);
    this.#order.pass(now);
  }

  /** The card refused although it looked free: it is not offered again before its next report. */
  refused(card: string): void {
    const seat = this.#seats.get(card);
    if (seat === undefined) return;
    seat.refused = true;
    this.#order.file(seat);
  }

  /** Whether some card takes work or may be tried; `unknown` while some card has not reported yet. */
  health(now: number): "healthy" | "unknown" | "none" {
    this.#order.pass(now);
    if (this.#order.working > 0) return "healthy";
    return this.#order.unknown > 0 ? "unknown" : "none";
  }

  /** When the next breaker becomes half-open; null if none has a time. */
  nextOpening(now: number): number | null {
    this.#order.pass(now);
    return this.#order.nextShut()?.gate.untilAt ?? null;
  }

  /** The least recently used card that takes work, whether or not it has a free slot. */
  working(avoid: string[], now: number): string | null {
    this.#order.pass(now);
    let best: Seat | null = null;
    for (const seat of this.#seats.values()) {
      if (avoid.includes(seat.card) || !takesWork(seat) || seat.gate.state !== "closed") continue;
      if (best === null || seat.usedSeq < best.usedSeq) best = seat;
    }
    return best?.card ?? null;
  }

  /** When the next breaker becomes half-open, and why it opened. */
  nextTrial(now: number): { at: number | null; cause: string | null } {
    this.#order.pass(now);
    const next = this.#order.nextShut()?.gate;
    if (next !== undefined) return { at: next.untilAt, cause: next.reason };
    for (const { gate } of this.#seats.values()) {
      if (gate.state !== "closed" && Number.isFinite(gate.untilAt)) return { at: null, cause: gate.reason };
    }
    return { at: null, cause: null };
  }

  /** Slots of the cards that take work. */
  capacity(now: number): number {
    this.#order.pass(now);
    let slots = 0;
    for (const seat of this.#seats.values()) if (takesWork(seat)) slots += seat.report?.slots ?? 0;
    return slots;
  }

  holding(tenant: string): number {
    return this.#holding.get(tenant) ?? 0;
  }

  /** Tenants whose count may have changed since the last call, and who may have crossed their cap. */
  changed(): Iterable<string> {
    const changed = this.#changed;
    this.#changed = new Set();
    return changed;
  }

  /** The attempt that reports show running for this fingerprint, unless it is known to be over. */
  running(fingerprint: string, over: ReadonlySet<string>): string | null {
    for (const attempt of this.#prints.get(fingerprint) ?? []) if (!over.has(attempt)) return attempt;
    return null;
  }

  reportOf(card: string): CardReport | null {
    return this.#seats.get(card)?.report ?? null;
  }

  /** Whether any card's report shows that the card missed its latest configuration. */
  get hasBehind(): boolean {
    return this.#behind.size > 0;
  }

  names(): string[] {
    return [...this.#seats.keys()];
  }

  reports(): CardReport[] {
    return Array.from(this.#seats.values(), (seat) => seat.report).filter((report) => report !== null);
  }

  silent(): string[] {
    return Array.from(this.#seats.values())
      .filter((seat) => seat.report === null)
      .map((seat) => seat.card);
  }

  /** Notes whether the card has its latest configuration, judging by its report. */
  #compare({ card, version, report }: Seat): void {
    const isBehind = report !== null && (report.version < version || report.gates[this.#service] === undefined);
    if (isBehind) this.#behind.add(card);
    else this.#behind.delete(card);
  }

  #othersTakeWork(tried: string[]): boolean {
    for (const seat of this.#seats.values()) if (!tried.includes(seat.card) && takesWork(seat)) return true;
    return false;
  }

  /** Adjusts a request's tenant and address counts by one held slot. */
  #add(by: RequestRef, sign: 1 | -1): void {
    const { tenant } = by;
    this.#changed.add(tenant);
    const count = this.holding(tenant) + sign;
    if (count === 0) this.#holding.delete(tenant);
    else this.#holding.set(tenant, count);
    if (sign === 1) this.#addresses.add(by);
    else this.#addresses.remove(by);
  }

  /** Adds or removes everything that a card holds. */
  #count(seat: Seat, sign: 1 | -1): void {
    for (const held of seat.report?.held ?? []) {
      if (held.service !== this.#service) continue;
      this.#add(held, sign);
      if (held.fingerprint !== null && held.state === "leased") this.#print(held.fingerprint, held.attempt, sign);
    }
    for (const { by } of seat.pending.values()) this.#add(by, sign);
  }

  #print(fingerprint: string, attempt: string, sign: 1 | -1): void {
    const attempts = this.#prints.get(fingerprint) ?? new Set();
    if (sign === 1) attempts.add(attempt);
    else attempts.delete(attempt);
    if (attempts.size === 0) this.#prints.delete(fingerprint);
    else this.#prints.set(fingerprint, attempts);
  }

  #drop(seat: Seat, attempt: string): boolean {
    const pending = seat.pending.get(attempt);
    if (pending === undefined) return false;
    seat.pending.delete(attempt);
    this.#add(pending.by, -1);
    return true;
  }
}
