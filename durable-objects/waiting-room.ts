/**
 * The waiting room of a pool: a queue that is fair between tenants. Pure; `now` is an argument.
 *
 * Between tenants: start-time fair queueing by weight (Goyal, Vin, Cheng, 1996). Each tenant has a start tag, and the
 * lowest goes first. A grant advances the tag by 1 / weight, and a tenant that returns joins at the current virtual
 * time. Within a tenant: by place (place.ts). A tenant at its cap is skipped.
 *
 * Invariants: a waiter is in its tenant's line exactly once; `ready` holds exactly the tenants that have waiters and
 * are below their cap, ordered by start tag. Each operation is logarithmic in waiters and tenants unless noted.
 */
import { byPlace, type Place, placeOf } from "./place.ts";
import { SortedMap } from "./sorted-map.ts";
import type { Entry } from "./pool-protocol.ts";

type VirtualTime = [start: number, seq: number];

/** Minimum number of lines before empty ones are swept. */
const SWEEP_MIN = 1024;
/** How many different sets of avoided cards `next` tries at most. */
const LOOK_MAX = 64;

const byTurn = (a: VirtualTime, b: VirtualTime) => a[0] - b[0] || a[1] - b[1];

interface Line {
  tenant: string;
  weight: number;
  /** Slots that the tenant may hold, as of its latest entry. */
  concurrent: number;
  /** Virtual time at which the tenant's next grant starts. */
  start: number;
  seq: number;
  capped: boolean;
  waiters: SortedMap<Place, string>;
  /** The number of waiters that are not jobs. */
  calls: number;
  turn: VirtualTime | null;
}

interface Waiter {
  entry: Entry;
  place: Place;
}

export class WaitingRoom {
  readonly #waiters = new Map<string, Waiter>();
  readonly #lines = new Map<string, Line>();
  readonly #ready = new SortedMap<VirtualTime, Line>(undefined, byTurn);
  #virtual = 0;
  #seq = 0;
  #calls = 0;
  #sweepAt = SWEEP_MIN;

  get length(): number {
    return this.#waiters.size;
  }

  /** The number of waiters that are not jobs; jobs are bounded elsewhere. */
  get calls(): number {
    return this.#calls;
  }

  has(attempt: string): boolean {
    return this.#waiters.has(attempt);
  }

  /** A tenant's number of waiters that are not jobs. */
  callsOf(tenant: string): number {
    return this.#lines.get(tenant)?.calls ?? 0;
  }

  /** A tenant's number of waiters. */
  lengthOf(tenant: string): number {
    return this.#lines.get(tenant)?.waiters.size ?? 0;
  }

  /** Enters the tenant's line, by priority and arrival. Idempotent. */
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

  /** Sets whether the tenant is at its cap. If so, it is skipped. */
  cap(tenant: string, capped: boolean): void {
    const line = this.#lines.get(tenant);
    if (line === undefined || line.capped === capped) return;
    line.capped = capped;
    this.#place(line);
  }

  /** Finds the first waiter, in fair order, for which `match` finds a card that it does not avoid; null: none. */
  next<T>(match: (avoid: string[]) => T | null): { entry: Entry; found: T } | null {
    // `match` is called only once for all waiters that avoid the same cards.
    const inVain = new Set<string>();
    for (const line of this.#ready.values()) {
      for (const attempt of line.waiters.values()) {
        const entry = this.#waiters.get(attempt)?.entry;
        const avoided = entry?.avoid.join(" ") ?? "";
        if (entry === undefined || inVain.has(avoided)) continue;
        const found = match(entry.avoid);
        if (found !== null) return { entry, found };
        if (inVain.add(avoided).size >= LOOK_MAX) return null;
      }
    }
    return null;
  }

  /** The waiter leaves with a grant, which is charged to its tenant's start tag. */
  grant(attempt: string): void {
    const line = this.#lines.get(this.#waiters.get(attempt)?.entry.tenant ?? "");
    if (line === undefined) return;
    this.#virtual = Math.max(this.#virtual, line.start);
    line.start += 1 / line.weight;
    this.leave(attempt);
  }

  /** Undoes the charge of a grant that came to nothing. */
  refund(tenant: string): void {
    const line = this.#lines.get(tenant);
    if (line === undefined) return;
    line.start -= 1 / line.weight;
    this.#place(line);
  }

  /**
   * The waiter that a new request of this tenant displaces when `max` waiters fill the room: the last waiter (by
   * priority, then arrival) of the longest line, if the tenant itself is below its equal share; otherwise null. The new
   * request must not be in line yet. Jobs do not count towards `max` and are never displaced. Linear in tenants, and in
   * the jobs behind the displaced waiter.
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
   * How many grants come before this waiter's if nobody else arrives: its tenant's earlier waiters, and the waiters of
   * every other tenant below its cap whose turn in virtual time is earlier. Linear in tenants and in the tenant's own
   * line: for refusals and deadlines, not for grants.
   */
  ahead(attempt: string): number {
    const waiter = this.#waiters.get(attempt);
    const line = this.#lines.get(waiter?.entry.tenant ?? "");
    if (waiter === undefined || line === undefined) return 0;
    // A new waiter is usually the last: no counting needed.
    const isLast = line.waiters.maxKey() === waiter.place;
    const before = () => line.waiters.forRange(line.waiters.minKey() ?? waiter.place, waiter.place, false);
    const own = isLast ? line.waiters.size - 1 : before();
    const turn: VirtualTime = [this.#startOf(line) + own / line.weight, line.seq];
    let ahead = own;
    for (const other of this.#lines.values()) {
      if (other !== line && !other.capped) ahead += Math.min(other.waiters.size, this.#grantsBefore(turn, other));
    }
    return ahead;
  }

  entries(): Entry[] {
    return Array.from(this.#waiters.values(), (waiter) => waiter.entry);
  }

  /** When the longest-waiting request arrived; null if none waits. Linear. */
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

  /** How many grants a line gets before this turn, if it is long enough. */
  #grantsBefore([start, seq]: VirtualTime, line: Line): number {
    const grants = (start - this.#startOf(line)) * line.weight;
    if (grants < 0) return 0;
    // Ties go to the older line.
    const tied = Number.isInteger(grants) && line.seq < seq;
    return tied ? grants + 1 : Math.ceil(grants);
  }

  /** Updates the line's position in `ready`, and deletes it if it is empty and its start tag no longer matters. */
  #place(line: Line): void {
    if (line.turn !== null) this.#ready.delete(line.turn);
    line.turn = null;
    // The start tag of an empty line matters while it is ahead of virtual time: the tenant was served ahead of others.
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

  /** Deletes empty lines that virtual time has caught up with, occasionally, so that old tenants do not accumulate. */
  #sweep(): void {
    if (this.#lines.size < this.#sweepAt) return;
    for (const line of this.#lines.values()) {
      if (line.waiters.size === 0 && (line.start <= this.#virtual || this.#waiters.size === 0))
        this.#lines.delete(line.tenant);
    }
    this.#sweepAt = Math.max(SWEEP_MIN, this.#lines.size * 2);
  }
}
