/**
 * The line in front of a pool, fair between tenants. Pure; `now` is an argument.
 *
 * A waiter is in line, or it is not here. Between tenants: start-time fair queueing by weight (Goyal, Vin, Cheng,
 * 1996): every tenant has a start tag, the lowest goes first, a grant moves it on by 1 / weight, and who was away
 * joins at the present virtual time. Within a tenant by place (place.ts). A tenant at its cap is passed over.
 *
 * Always: a waiter stands in its tenant's line once; `ready` holds just the tenants that have a waiter and are below
 * their cap, by start tag. Every step is logarithmic in waiters and tenants.
 */
import { byPlace, type Place, placeOf } from "./place.ts";
import { SortedMap } from "./sorted-map.ts";
import type { Entry } from "./pool-protocol.ts";

type Turn = [start: number, seq: number];

/** Lines kept before empty ones are looked for. */
const SWEEP_MIN = 1024;
/** Heads that are looked at when the first cannot use what is free (it has tried those cards already). */
const LOOK_MAX = 64;

const byTurn = (a: Turn, b: Turn) => a[0] - b[0] || a[1] - b[1];

interface Line {
  tenant: string;
  weight: number;
  /** Slots that the tenant may hold, by its latest entry. */
  concurrent: number;
  /** Virtual time at which this tenant's next grant starts. */
  start: number;
  seq: number;
  capped: boolean;
  waiters: SortedMap<Place, string>;
  /** Of the waiters, those that are no jobs. */
  calls: number;
  turn: Turn | null;
}

interface Waiter {
  entry: Entry;
  place: Place;
}

export class WaitingRoom {
  readonly #waiters = new Map<string, Waiter>();
  readonly #lines = new Map<string, Line>();
  readonly #ready = new SortedMap<Turn, Line>(undefined, byTurn);
  #virtual = 0;
  #seq = 0;
  #calls = 0;
  #sweepAt = SWEEP_MIN;

  get length(): number {
    return this.#waiters.size;
  }

  /** Without jobs, which are bounded elsewhere. */
  get calls(): number {
    return this.#calls;
  }

  has(attempt: string): boolean {
    return this.#waiters.has(attempt);
  }

  /** How many of a tenant wait, jobs left out. */
  callsOf(tenant: string): number {
    return this.#lines.get(tenant)?.calls ?? 0;
  }

  /** How many of a tenant wait. */
  lengthOf(tenant: string): number {
    return this.#lines.get(tenant)?.waiters.size ?? 0;
  }

  /** Takes a place in line: by priority and arrival among the tenant's own. Twice is once. */
  enter(entry: Entry): void {
    if (this.#waiters.has(entry.attempt)) return;
    const place = placeOf(entry, ++this.#seq);
    let line = this.#lines.get(entry.tenant);
    if (line === undefined) {
      const { tenant, weight, concurrent } = entry;
      const waiters = new SortedMap<Place, string>(undefined, byPlace);
      const fresh = { start: this.#virtual, seq: this.#seq, capped: false, calls: 0, turn: null };
      line = { tenant, weight, concurrent, waiters, ...fresh };
      this.#lines.set(tenant, line);
    }
    line.weight = entry.weight;
    line.concurrent = entry.concurrent;
    this.#waiters.set(entry.attempt, { entry, place });
    line.waiters.set(place, entry.attempt);
    this.#countCall(line, entry, 1);
    this.#place(line);
  }

  leave(attempt: string): boolean {
    const waiter = this.#waiters.get(attempt);
    if (waiter === undefined) return false;
    this.#waiters.delete(attempt);
    const line = this.#lines.get(waiter.entry.tenant);
    if (line !== undefined) {
      line.waiters.delete(waiter.place);
      this.#countCall(line, waiter.entry, -1);
      this.#place(line);
    }
    return true;
  }

  /** The cap of a tenant that has a line; null without one. */
  concurrentOf(tenant: string): number | null {
    return this.#lines.get(tenant)?.concurrent ?? null;
  }

  /** A tenant at its cap is passed over until it is below. */
  cap(tenant: string, capped: boolean): void {
    const line = this.#lines.get(tenant);
    if (line === undefined || line.capped === capped) return;
    line.capped = capped;
    this.#place(line);
  }

  /**
   * The next waiter whom `match` finds something for, with what it found. Fairness comes first: a waiter is passed
   * over only when nothing that is free suits it.
   */
  next<T>(match: (entry: Entry) => T | null): { entry: Entry; found: T } | null {
    let looked = 0;
    for (const line of this.#ready.values()) {
      for (const attempt of line.waiters.values()) {
        const waiter = this.#waiters.get(attempt);
        const found = waiter === undefined ? null : match(waiter.entry);
        if (waiter !== undefined && found !== null) return { entry: waiter.entry, found };
        if (++looked >= LOOK_MAX) return null;
      }
    }
    return null;
  }

  /** The waiter leaves with a grant, which is charged to its tenant. */
  grant(attempt: string): void {
    const line = this.#lines.get(this.#waiters.get(attempt)?.entry.tenant ?? "");
    if (line === undefined) return;
    this.#virtual = Math.max(this.#virtual, line.start);
    line.start += 1 / line.weight;
    this.leave(attempt);
  }

  /** A grant that came to nothing is given back. */
  refund(tenant: string): void {
    const line = this.#lines.get(tenant);
    if (line === undefined) return;
    line.start -= 1 / line.weight;
    this.#place(line);
  }

  /**
   * Whom a newcomer of this tenant displaces when the room of `max` is full: the newest of the longest line, if the
   * tenant itself is below its equal share; else null. The newcomer is not in line yet. The newest is who stands last:
   * of the lowest priority, then of the latest arrival. Jobs take no place of the room, and none is taken from them.
   * Linear in tenants, and in the jobs that stand behind the newest.
   */
  displaced(tenant: string, max: number): string | null {
    const own = this.callsOf(tenant);
    const tenants = [...this.#lines.values()].filter((line) => line.calls > 0 && line.tenant !== tenant);
    if (own >= max / (tenants.length + 1)) return null;
    const longest = tenants.reduce<Line | null>(
      (most, line) => (most === null || line.calls > most.calls ? line : most),
      null,
    );
    if (longest === null || longest.calls <= own) return null;
    for (const [, attempt] of longest.waiters.entriesReversed())
      if (this.#waiters.get(attempt)?.entry.job === false) return attempt;
    return null;
  }

  /**
   * How many grants come before this waiter's, if nobody else comes: of its own tenant those that stand earlier, of
   * every other tenant below its cap those whose turn in virtual time is earlier. Linear in tenants and in the
   * tenant's own line: for refusals and deadlines, not for grants.
   */
  ahead(attempt: string): number {
    const waiter = this.#waiters.get(attempt);
    const line = this.#lines.get(waiter?.entry.tenant ?? "");
    if (waiter === undefined || line === undefined) return 0;
    // A newcomer mostly stands last: that needs no counting.
    const isLast = line.waiters.maxKey() === waiter.place;
    const before = () => line.waiters.forRange(line.waiters.minKey() ?? waiter.place, waiter.place, false);
    const own = isLast ? line.waiters.size - 1 : before();
    const turn: Turn = [this.#startOf(line) + own / line.weight, line.seq];
    let ahead = own;
    for (const other of this.#lines.values()) {
      if (other !== line && !other.capped) ahead += Math.min(other.waiters.size, this.#grantsBefore(turn, other));
    }
    return ahead;
  }

  entries(): Entry[] {
    return Array.from(this.#waiters.values(), (waiter) => waiter.entry);
  }

  /** When the one who has waited longest arrived; null when nobody waits. Linear. */
  oldestAt(): number | null {
    let oldest: number | null = null;
    for (const { entry } of this.#waiters.values()) oldest = Math.min(oldest ?? entry.arrivedAt, entry.arrivedAt);
    return oldest;
  }

  #countCall(line: Line, { job }: Entry, by: 1 | -1): void {
    if (job) return;
    line.calls += by;
    this.#calls += by;
  }

  #startOf(line: Line): number {
    return Math.max(line.start, this.#virtual);
  }

  /** How many grants a line has before this turn, if it is long enough. */
  #grantsBefore([start, seq]: Turn, line: Line): number {
    const grants = (start - this.#startOf(line)) * line.weight;
    if (grants < 0) return 0;
    // At a tie the older line goes first.
    const tied = Number.isInteger(grants) && line.seq < seq;
    return tied ? grants + 1 : Math.ceil(grants);
  }

  /** Puts a line where it belongs: into `ready`, out of it, or away when it is of no more use. */
  #place(line: Line): void {
    if (line.turn !== null) this.#ready.delete(line.turn);
    line.turn = null;
    // An empty line is kept only while its start tag still says something: it was served ahead of the others.
    if (line.waiters.size === 0) {
      if (line.start <= this.#virtual) this.#lines.delete(line.tenant);
      else this.#sweep();
      return;
    }
    if (line.capped) return;
    line.start = this.#startOf(line);
    line.turn = [line.start, line.seq];
    this.#ready.set(line.turn, line);
  }

  /** Forgets empty lines that the virtual time has caught up with, now and then, so that old tenants do not pile up. */
  #sweep(): void {
    if (this.#lines.size < this.#sweepAt) return;
    for (const line of this.#lines.values()) {
      if (line.waiters.size === 0 && (line.start <= this.#virtual || this.#waiters.size === 0))
        this.#lines.delete(line.tenant);
    }
    this.#sweepAt = Math.max(SWEEP_MIN, this.#lines.size * 2);
  }
}
