/**
 * The order in which a Pool offers its cards: the most free share of slots by weight first, then the longest unused.
 * Cards whose gate opens by time stand apart until then. Pure; `now` is an argument.
 *
 * Always: `free` holds just the seats that take work, have a slot that is neither held nor pending, and have not said
 * no since their last report; `shut` those whose gate has a time. Every step is logarithmic in the cards.
 */
import type { Named } from "./addresses.ts";
import { SortedMap } from "./sorted-map.ts";
import type { CardReport, Gate } from "./card-protocol.ts";

type Rank = [share: number, usedSeq: number, card: string];
type Opening = [untilAt: number, card: string];

/** A clock that goes back by more than this was set back. */
const SET_BACK_MS = 1_000;

const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const byRank = (a: Rank, b: Rank) => a[0] - b[0] || a[1] - b[1] || byName(a[2], b[2]);
const byOpening = (a: Opening, b: Opening) => a[0] - b[0] || byName(a[1], b[1]);
const CLOSED: Gate = { state: "closed", untilAt: 0, reason: null };

/** What a Pool knows of one card. */
export interface Seat {
  card: string;
  weight: number;
  report: CardReport | null;
  gate: Gate;
  /** Its gate is open on suspicion, and too many others are out: one request may try it before the time. */
  pressed: boolean;
  /** Requests of this service that run on it, by its report. */
  running: number;
  /** Attempts that this pool has offered the card to, or that claimed it, and that its report does not show yet. */
  pending: Map<string, { number: number | null; by: Named }>;
  usedSeq: number;
  /** Said no although it looked free, and has not reported since. */
  refused: boolean;
  rank: Rank | null;
  opening: Opening | null;
}

export function newSeat(card: string, weight: number): Seat {
  const known = {
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

/** Whether the card takes new work, with a free slot or without. */
export function takesWork({ report, gate, pressed }: Seat): boolean {
  return report?.state === "active" && (gate.state === "closed" || gate.state === "half_open" || pressed);
}

/** How many may be busy on it at once: a gate that is not wide open lets fewer through than there are slots. */
function room({ report, gate, running }: Seat): number {
  const { slots, held } = report as CardReport;
  if (gate.state !== "closed") return Math.min(slots, held.length + 1);
  return gate.most === undefined ? slots : Math.min(slots, held.length - running + gate.most);
}

export class CardOrder {
  readonly #free = new SortedMap<Rank, Seat>(undefined, byRank);
  readonly #shut = new SortedMap<Opening, Seat>(undefined, byOpening);
  /** Seats that nobody took out of work, and those of them whose gate keeps them out. */
  readonly #active = new Set<Seat>();
  readonly #out = new Set<Seat>();
  readonly #working = new Set<Seat>();
  readonly #unknown = new Set<Seat>();
  #now = 0;

  /** Seats that take work, with a free slot or without. */
  get working(): number {
    return this.#working.size;
  }

  /** Seats that have not reported yet. */
  get unknown(): number {
    return this.#unknown.size;
  }

  /** Seats with a free slot, the best first. */
  free(): Iterable<Seat> {
    return this.#free.values();
  }

  /** The seat whose gate opens next; undefined when none does by time. */
  nextShut(): Seat | undefined {
    const key = this.#shut.minKey();
    return key === undefined ? undefined : this.#shut.get(key);
  }

  /** Time passes: a gate whose time has come lets one request try its card. */
  pass(now: number): void {
    // Else a clock that was set back would keep them shut for as much longer; the Card knows better and may say no.
    const isSetBack = now < this.#now - SET_BACK_MS;
    this.#now = isSetBack ? now : Math.max(now, this.#now);
    for (let seat = this.nextShut(); seat !== undefined; seat = this.nextShut()) {
      const { untilAt } = seat.gate;
      if (untilAt > now && !isSetBack) return;
      seat.gate = { ...seat.gate, state: "half_open", untilAt: Math.min(untilAt, now) };
      this.file(seat);
    }
  }

  /** Puts a seat where it belongs: among the free, among the shut, or neither. */
  file(seat: Seat): void {
    this.remove(seat);
    const { report, gate } = seat;
    if (report === null) this.#unknown.add(seat);
    if (report === null || report.state === "active") this.#active.add(seat);
    this.#judge(seat);
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

  /** Among those that take work, and among the free, when it is. */
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

  /** Never more than half are out on suspicion: the one that would be too many is tried at once. */
  #judge(seat: Seat): void {
    const { report, gate } = seat;
    seat.pressed = false;
    if (report?.state !== "active" || gate.state !== "open" || !Number.isFinite(gate.untilAt)) return;
    seat.pressed = gate.proven !== true && this.#out.size + 1 > this.#active.size / 2;
    if (!seat.pressed) this.#out.add(seat);
  }

  /** When others were taken out of work, suspects that were half are more. */
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
