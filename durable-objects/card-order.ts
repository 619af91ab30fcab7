/**
 * The order in which a Pool offers its cards: lowest share of busy slots (by weight) first, then least recently used.
 * Cards whose breaker is open until a known time are kept apart until then. Pure; `now` is an argument.
 *
 * Invariants: `free` holds exactly the cards that take work, have a slot that is neither held nor pending, and have not
 * refused a claim since their last report. `shut` holds those whose breaker is open until a known time. Each operation
 * is logarithmic in the number of cards.
 */
import type { RequestRef } from "./addresses.ts";
import { SortedMap } from "./sorted-map.ts";
import type { CardReport, BreakerState } from "./card-protocol.ts";

type Rank = [share: number, usedSeq: number, card: string];
type Opening = [untilAt: number, card: string];

/** A backward step of the clock larger than this means that the clock was set. */
const SET_BACK_MS = 1_000;

const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const byRank = (a: Rank, b: Rank) => a[0] - b[0] || a[1] - b[1] || byName(a[2], b[2]);
const byOpening = (a: Opening, b: Opening) => a[0] - b[0] || byName(a[1], b[1]);
const CLOSED: BreakerState = { state: "closed", untilAt: 0, reason: null };

/** What a Pool knows of one card. */
export interface Seat {
  card: string;
  weight: number;
  /** The latest version of the card's configuration that the Pool knows of. */
  version: number;
  report: CardReport | null;
  gate: BreakerState;
  /** Its breaker is open on suspicion, and too many others are out: one request may try it early. */
  pressed: boolean;
  /** Requests of this service that its report shows running. */
  running: number;
  /** Attempts that were offered this card, or have claimed it, and that its report does not show yet. */
  pending: Map<string, { number: number | null; by: RequestRef }>;
  usedSeq: number;
  /** It refused a claim although it looked free, and has not reported since. */
  refused: boolean;
  rank: Rank | null;
  opening: Opening | null;
}

export function newSeat(card: string, weight: number): Seat {
  const known = {
    version: 0,
    report: null,
    gate: CLOSED,
    pressed: false,
    running: 0,
    pending: new Map(),
    usedSeq: 0,
    refused: false,
  };
  return { card, weight, ...known, rank: null, opening: null };
}

/** Whether the card takes new work, regardless of free slots. */
export function takesWork({ report, gate, pressed }: Seat): boolean {
  return report?.state === "active" && (gate.state === "closed" || gate.state === "half_open" || pressed);
}

/** How many slots may be busy at once. A breaker that is not closed, or has seen failures, may allow fewer than all. */
function room({ report, gate, running }: Seat): number {
  const { slots, held } = report as CardReport;
  if (gate.state !== "closed") return Math.min(slots, held.length + 1);
  return gate.most === undefined ? slots : Math.min(slots, held.length - running + gate.most);
}

export class CardOrder {
  readonly #free = new SortedMap<Rank, Seat>(undefined, byRank);
  readonly #shut = new SortedMap<Opening, Seat>(undefined, byOpening);
  /** Cards that are active or have not reported yet, and those of them that their breaker keeps out. */
  readonly #active = new Set<Seat>();
  readonly #out = new Set<Seat>();
  readonly #working = new Set<Seat>();
  readonly #unknown = new Set<Seat>();
  #now = 0;

  /** The number of cards that take work, regardless of free slots. */
  get working(): number {
    return this.#working.size;
  }

  /** The number of cards that have not reported yet. */
  get unknown(): number {
    return this.#unknown.size;
  }

  /** Cards with a free slot, best first. */
  free(): Iterable<Seat> {
    return this.#free.values();
  }

  /** The card whose breaker becomes half-open next; undefined if none has a time. */
  nextShut(): Seat | undefined {
    const key = this.#shut.minKey();
    return key === undefined ? undefined : this.#shut.get(key);
  }

  /** Advances time: a breaker whose time has come lets one request try its card. */
  pass(now: number): void {
    // After the clock was set back, breakers would stay open that much longer. The Card knows better and may refuse.
    const isSetBack = now < this.#now - SET_BACK_MS;
    this.#now = isSetBack ? now : Math.max(now, this.#now);
    for (let seat = this.nextShut(); seat !== undefined; seat = this.nextShut()) {
      const { untilAt } = seat.gate;
      if (untilAt > now && !isSetBack) return;
      seat.gate = { ...seat.gate, state: "half_open", untilAt: Math.min(untilAt, now) };
      this.file(seat);
    }
  }

  /** Inserts the card into the sets and maps that it belongs to. */
  file(seat: Seat): void {
    const wasOut = this.#out.has(seat);
    this.remove(seat);
    const { report, gate } = seat;
    if (report === null) this.#unknown.add(seat);
    if (report === null || report.state === "active") this.#active.add(seat);
    this.#judge(seat, wasOut);
    this.#rank(seat);
    this.#press();
    if (gate.state === "open" && Number.isFinite(gate.untilAt)) {
      seat.opening = [gate.untilAt, seat.card];
      this.#shut.set(seat.opening, seat);
    }
  }

  remove(seat: Seat): void {
    if (seat.rank !== null) this.#free.delete(seat.rank);
    if (seat.opening !== null) this.#shut.delete(seat.opening);
    for (const set of [this.#active, this.#out, this.#working, this.#unknown]) set.delete(seat);
    seat.rank = null;
    seat.opening = null;
  }

  /** Adds the card to `working` and `free` if it qualifies. */
  #rank(seat: Seat): void {
    const { report } = seat;
    if (report === null || !takesWork(seat)) return;
    this.#working.add(seat);
    if (seat.refused) return;
    const busy = report.held.length + seat.pending.size;
    if (busy >= room(seat)) return;
    seat.rank = [busy / (report.slots * seat.weight), seat.usedSeq, seat.card];
    this.#free.set(seat.rank, seat);
  }

  /**
   * Decides whether a card with an open breaker is out. A suspect that would bring the cards that are out to more than
   * half is tried at once instead. A card that is already out stays out until its breaker allows a trial, however many
   * reports arrive.
   */
  #judge(seat: Seat, wasOut: boolean): void {
    const { report, gate } = seat;
    seat.pressed = false;
    if (report?.state !== "active" || gate.state !== "open" || !Number.isFinite(gate.untilAt)) return;
    seat.pressed = gate.proven !== true && !wasOut && this.#out.size + 1 > this.#active.size / 2;
    if (!seat.pressed) this.#out.add(seat);
  }

  /** When other cards leave, suspects may become more than half of the rest: the surplus is tried at once. */
  #press(): void {
    if (this.#out.size <= this.#active.size / 2) return;
    const suspects = [...this.#out].filter(({ gate }) => gate.proven !== true);
    for (const seat of suspects.slice(Math.floor(this.#active.size / 2))) {
      this.#out.delete(seat);
      seat.pressed = true;
      this.#rank(seat);
    }
  }
}
