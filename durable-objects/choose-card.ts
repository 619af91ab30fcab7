/**
 * Which card is offered next: the one with the most free share of its slots by weight, then the longest unused. A
 * Pool's own counts: advice, mended by every report. Pure; `now` is an argument. Logarithmic in the cards.
 */
import { SortedMap } from "./sorted-map.ts";
import type { CardReport, Gate, PoolCard } from "./protocol.ts";

type Rank = [share: number, usedSeq: number, card: string];

const byRank = (a: Rank, b: Rank) => a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : a[2] > b[2] ? 1 : 0);
const CLOSED: Gate = { state: "closed", untilAt: 0, reason: null };

interface Seat {
  card: string;
  weight: number;
  report: CardReport | null;
  gate: Gate;
  /** Attempts that this pool has offered the card to, or that claimed it, and that its report does not show yet. */
  pending: Map<string, { number: number | null; tenant: string }>;
  usedSeq: number;
  rank: Rank | null;
}

export class Cards {
  readonly #service: string;
  readonly #seats = new Map<string, Seat>();
  readonly #free = new SortedMap<Rank, Seat>(undefined, byRank);
  /** Slots that each tenant holds for this service: leased, draining, or about to be claimed. */
  readonly #holding = new Map<string, number>();
  #seq = 0;

  constructor(service: string) {
    this.#service = service;
  }

  /** The cards of the pool, as configured; those that stay keep what is known of them. */
  configure(cards: PoolCard[], now: number): void {
    const listed = new Map(cards.map((card) => [card.card, card.weight]));
    for (const seat of this.#seats.values()) {
      if (listed.has(seat.card)) continue;
      this.#unrank(seat);
      this.#count(seat, -1);
      this.#seats.delete(seat.card);
    }
    for (const [card, weight] of listed) {
      const seat = this.#seats.get(card) ?? { card, weight, report: null, gate: CLOSED, pending: new Map(), usedSeq: 0, rank: null };
      seat.weight = weight;
      this.#seats.set(card, seat);
      this.#rank(seat, now);
    }
  }

  /** Takes over a report if it is newer than what is known. */
  report(report: CardReport, now: number): boolean {
    const seat = this.#seats.get(report.card);
    if (seat === undefined) return false;
    const known = seat.report;
    if (known !== null && (report.incarnation < known.incarnation || (report.incarnation === known.incarnation && report.seq <= known.seq))) {
      return false;
    }
    this.#count(seat, -1);
    seat.report = report;
    seat.gate = report.gates[this.#service] ?? { state: "open", untilAt: Number.POSITIVE_INFINITY, reason: "unlisted" };
    for (const [attempt, { number }] of seat.pending) {
      const shown = report.held.some((held) => held.attempt === attempt);
      if (shown || (number !== null && number <= report.lastNumber)) seat.pending.delete(attempt);
    }
    this.#count(seat, 1);
    this.#rank(seat, now);
    return true;
  }

  /** The best card that is free and not among those to avoid, unless no other takes work at all. */
  best(tried: string[], now: number): string | null {
    // A card to avoid is one the request has tried: there are at most as many as a service allows tries.
    const avoid = tried.length > 0 && this.#othersTakeWork(tried, now) ? tried : [];
    for (const seat of this.#free.values()) {
      if (!avoid.includes(seat.card)) return seat.card;
    }
    // Gates that open by time are ranked when somebody asks.
    for (const seat of this.#due(now)) {
      this.#rank(seat, now);
      if (seat.rank !== null && !avoid.includes(seat.card)) return seat.card;
    }
    return null;
  }

  offered(card: string, attempt: string, tenant: string, now: number): void {
    const seat = this.#seats.get(card);
    if (seat === undefined) return;
    seat.pending.set(attempt, { number: null, tenant });
    this.#add(tenant, 1);
    seat.usedSeq = ++this.#seq;
    this.#rank(seat, now);
  }

  claimed(card: string, attempt: string, number: number, now: number): void {
    const seat = this.#seats.get(card);
    const pending = seat?.pending.get(attempt);
    if (seat === undefined || pending === undefined) return;
    if (number <= (seat.report?.lastNumber ?? 0)) this.#drop(seat, attempt);
    else pending.number = number;
    this.#rank(seat, now);
  }

  /** The offer came to nothing. */
  withdrawn(card: string, attempt: string, now: number): void {
    const seat = this.#seats.get(card);
    if (seat === undefined || !this.#drop(seat, attempt)) return;
    this.#rank(seat, now);
  }

  /** The card said no although it looked free: not offered again before its next report. */
  refused(card: string): void {
    const seat = this.#seats.get(card);
    if (seat !== undefined) this.#unrank(seat);
  }

  /** Whether some card takes work, or may when tried; while a card has not reported yet nobody knows. */
  health(now: number): "healthy" | "unknown" | "none" {
    let unknown = false;
    for (const seat of this.#seats.values()) {
      if (seat.report === null) unknown = true;
      else if (this.#takesWork(seat, now)) return "healthy";
    }
    return unknown ? "unknown" : "none";
  }

  /** Some card that takes work, whether or not it has a free slot: the longest unused. */
  working(avoid: string[], now: number): string | null {
    let best: Seat | null = null;
    for (const seat of this.#seats.values()) {
      if (avoid.includes(seat.card) || !this.#takesWork(seat, now) || seat.gate.state !== "closed") continue;
      if (best === null || seat.usedSeq < best.usedSeq) best = seat;
    }
    return best?.card ?? null;
  }

  /** The earliest time to come that a shut card may be tried, and why it was shut. */
  nextTrial(now: number): { at: number | null; cause: string | null } {
    let at: number | null = null;
    let cause: string | null = null;
    for (const { gate } of this.#seats.values()) {
      if (gate.state === "closed" || !Number.isFinite(gate.untilAt)) continue;
      cause ??= gate.reason;
      if (gate.untilAt <= now) continue;
      if (at === null || gate.untilAt < at) [at, cause] = [gate.untilAt, gate.reason];
    }
    return { at, cause };
  }

  /** Slots of the cards that take work. */
  capacity(now: number): number {
    let slots = 0;
    for (const seat of this.#seats.values()) if (this.#takesWork(seat, now)) slots += seat.report?.slots ?? 0;
    return slots;
  }

  holding(tenant: string): number {
    return this.#holding.get(tenant) ?? 0;
  }

  /** The attempt that runs this fingerprint, when a card shows one. */
  running(fingerprint: string): string | null {
    for (const seat of this.#seats.values()) {
      const held = seat.report?.held.find((h) => h.fingerprint === fingerprint && h.service === this.#service && h.state === "leased");
      if (held !== undefined) return held.attempt;
    }
    return null;
  }

  reportOf(card: string): CardReport | null {
    return this.#seats.get(card)?.report ?? null;
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

  #takesWork(seat: Seat, now: number): boolean {
    if (seat.report?.state !== "active") return false;
    const { state, untilAt } = seat.gate;
    return state === "closed" || state === "half_open" || (state === "open" && untilAt <= now);
  }

  #othersTakeWork(tried: string[], now: number): boolean {
    for (const seat of this.#seats.values()) if (!tried.includes(seat.card) && this.#takesWork(seat, now)) return true;
    return false;
  }

  *#due(now: number): Iterable<Seat> {
    for (const seat of this.#seats.values()) {
      if (seat.rank === null && seat.gate.state === "open" && seat.gate.untilAt <= now) yield seat;
    }
  }

  #add(tenant: string, slots: number): void {
    const count = this.holding(tenant) + slots;
    if (count === 0) this.#holding.delete(tenant);
    else this.#holding.set(tenant, count);
  }

  /** Adds or takes away everything that a card shows. */
  #count(seat: Seat, sign: 1 | -1): void {
    for (const held of seat.report?.held ?? []) if (held.service === this.#service) this.#add(held.tenant, sign);
    for (const { tenant } of seat.pending.values()) this.#add(tenant, sign);
  }

  #drop(seat: Seat, attempt: string): boolean {
    const pending = seat.pending.get(attempt);
    if (pending === undefined) return false;
    seat.pending.delete(attempt);
    this.#add(pending.tenant, -1);
    return true;
  }

  #unrank(seat: Seat): void {
    if (seat.rank !== null) this.#free.delete(seat.rank);
    seat.rank = null;
  }

  #rank(seat: Seat, now: number): void {
    this.#unrank(seat);
    const { report } = seat;
    if (report === null || !this.#takesWork(seat, now)) return;
    const busy = report.held.length + seat.pending.size;
    // A gate that is not closed lets one request through.
    const slots = seat.gate.state === "closed" ? report.slots : Math.min(report.slots, report.held.length + 1);
    if (busy >= slots) return;
    seat.rank = [busy / (report.slots * seat.weight), seat.usedSeq, seat.card];
    this.#free.set(seat.rank, seat);
  }
}
