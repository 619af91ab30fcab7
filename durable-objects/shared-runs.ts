/**
 * Request coalescing: which requests share a run. Pure.
 *
 * A run waits until one of its askers is offered a card. Until then its askers form parties: the askers of one tenant
 * that avoid the same cards. The first asker of each party is in the queue, and the rest of the party follows it. An
 * asker that is offered a card becomes the leader and holds the run: all others follow, out of the queue. When the
 * leader leaves or has to wait again, the run is no longer held and waits as before. A lost run is started again, once;
 * the leader that does so holds the run until its last attempt has ended.
 *
 * Invariants: an asker has at most one seat. While a run waits, exactly the first asker of each party is in the queue;
 * while it is held, none but its leader is. Each operation is logarithmic in askers and linear in the parties of the
 * run; only notifying all askers is linear.
 */
import { byPlace, type Place, placeOf } from "./place.ts";
import type { Entry } from "./pool-protocol.ts";
import { SortedMap } from "./sorted-map.ts";

/** Number of lost runs after which nobody starts it again. */
const LOST_MAX = 1;

interface Asker {
  entry: Entry;
}

/** The queue that askers enter and leave. */
interface Line<T> {
  enter(asker: T): void;
  leave(asker: T): void;
}

export interface Run<T> {
  fingerprint: string;
  /** The leader's attempt id, kept even if its ticket is lost; null: no leader. */
  attempt: string | null;
  /** The asker that was last offered a card; by now it may be waiting for another. */
  leader: T | null;
  /** The asker that last ran it and may retry; null: none, or its run was lost. */
  runner: T | null;
  /** Whether only the leader may be offered a card. */
  isHeld: boolean;
  /** How many runs of this were lost. */
  lost: number;
  parties: Map<string, SortedMap<Place, T>>;
}

interface Seat<T> {
  run: Run<T>;
  party: string;
  place: Place;
}

export class SharedRuns<T extends Asker> {
  readonly #line: Line<T>;
  readonly #byFingerprint = new Map<string, Run<T>>();
  readonly #byAttempt = new Map<string, Run<T>>();
  readonly #seats = new Map<T, Seat<T>>();
  readonly #perTenant = new Map<string, number>();
  #followers = 0;
  #seq = 0;

  constructor(line: Line<T>) {
    this.#line = line;
  }

  /** The number of followers, which are not in the queue. */
  get followers(): number {
    return this.#followers;
  }

  followersOf(tenant: string): number {
    return this.#perTenant.get(tenant) ?? 0;
  }

  ofFingerprint(fingerprint: string): Run<T> | undefined {
    return this.#byFingerprint.get(fingerprint);
  }

  ofLeader(attempt: string): Run<T> | undefined {
    return this.#byAttempt.get(attempt);
  }

  /** The followers of this asker, which is in the queue. */
  behind(asker: T): T[] {
    const seat = this.#seats.get(asker);
    const run = this.ofLeader(asker.entry.attempt);
    const parties = seat === undefined ? [...(run?.parties.values() ?? [])] : [seat.run.parties.get(seat.party)];
    return parties.flatMap((party) => [...(party?.values() ?? [])]).filter((other) => other !== asker);
  }

  /** The first of the asker's party, which is in the queue for all of it; null: not waiting, or its run is held. */
  inLineFor(asker: T): T | null {
    const seat = this.#seats.get(asker);
    const party = seat === undefined || seat.run.isHeld ? undefined : seat.run.parties.get(seat.party);
    return party === undefined ? null : (first(party) ?? null);
  }

  /** The held run that the asker follows, or null. Its leader may itself be waiting in the queue. */
  heldFor(asker: T): Run<T> | null {
    const run = this.#seats.get(asker)?.run;
    return run?.isHeld ? run : null;
  }

  /** Registers a run that a card shows. Leader null: its ticket was lost in a restart; only its lease is known. */
  adopt(fingerprint: string, attempt: string, leader: T | null): void {
    const run = this.#open(fingerprint);
    run.isHeld = true;
    run.leader = leader;
    this.#name(run, attempt);
  }

  /** Makes the asker wait with the others, in the queue or following. Returns true if it is the first of its party. */
  join(fingerprint: string, asker: T): boolean {
    const run = this.#byFingerprint.get(fingerprint) ?? this.#open(fingerprint);
    if (run.leader === asker && run.isHeld) {
      if (isLast(run)) {
        this.#line.enter(asker);
        return true;
      }
      this.#letGo(run);
    }
    return this.#seat(run, asker);
  }

  /** The asker stops waiting for good. If it had a run and another asker now leads, that run is lost. */
  leave(asker: T): void {
    const run = this.#seats.get(asker)?.run;
    this.part(asker);
    if (run?.runner !== asker || run.leader === asker) return;
    run.runner = null;
    run.lost++;
  }

  /** The asker stops waiting. */
  part(asker: T): void {
    const seat = this.#seats.get(asker);
    if (seat === undefined) return;
    const { run, party: name, place } = seat;
    const party = run.parties.get(name);
    if (party === undefined) return;
    const isInLine = !run.isHeld && first(party) === asker;
    if (isInLine) this.#stepOut(asker);
    this.#seats.delete(asker);
    this.#count(asker, -1);
    party.delete(place);
    const next = first(party);
    if (next === undefined) run.parties.delete(name);
    else if (isInLine) this.#lineUp(next);
    this.#forgetIfIdle(run);
  }

  /** The asker has a card. If another asker already holds the run, this one runs alone. */
  hold(fingerprint: string, asker: T): void {
    const run = this.#byFingerprint.get(fingerprint) ?? this.#open(fingerprint);
    if (run.isHeld && run.leader !== asker) return;
    if (!run.isHeld) for (const one of firsts(run)) this.#stepOut(one);
    run.isHeld = true;
    run.leader = asker;
    this.#name(run, asker.entry.attempt);
    this.part(asker);
  }

  /** The leader runs. If another asker ran before it, that run is lost. */
  began(asker: T): void {
    const run = this.ofLeader(asker.entry.attempt);
    if (run === undefined) return;
    if (run.runner !== null && run.runner !== asker) run.lost++;
    run.runner = asker;
  }

  /** The leader missed its offer and is out of the queue. */
  missed(asker: T): void {
    const run = this.ofLeader(asker.entry.attempt);
    if (run?.isHeld && !isLast(run)) this.#letGo(run);
  }

  /** The leader retries under a new attempt id. */
  rename(before: string, attempt: string): void {
    const run = this.#byAttempt.get(before);
    if (run !== undefined) this.#name(run, attempt);
  }

  /** The leader is gone. The others wait as before; if the run was lost too often it ends, and they are returned. */
  lose(run: Run<T>, ran: boolean): T[] {
    if (ran) run.lost++;
    if (run.lost > LOST_MAX) return this.end(run);
    if (run.runner === run.leader) run.runner = null;
    run.leader = null;
    this.#name(run, null);
    if (run.isHeld) this.#letGo(run);
    this.#forgetIfIdle(run);
    return [];
  }

  /** Forgets the run and returns its askers. */
  end(run: Run<T>): T[] {
    this.#name(run, null);
    if (this.#byFingerprint.get(run.fingerprint) === run) this.#byFingerprint.delete(run.fingerprint);
    if (!run.isHeld) for (const one of firsts(run)) this.#stepOut(one);
    const askers = [...run.parties.values()].flatMap((party) => [...party.values()]);
    for (const asker of askers) {
      this.#seats.delete(asker);
      this.#count(asker, -1);
    }
    run.parties.clear();
    return askers;
  }

  #open(fingerprint: string): Run<T> {
    const run: Run<T> = {
      fingerprint,
      attempt: null,
      leader: null,
      runner: null,
      isHeld: false,
      lost: 0,
      parties: new Map(),
    };
    this.#byFingerprint.set(fingerprint, run);
    return run;
  }

  #seat(run: Run<T>, asker: T): boolean {
    if (this.#seats.has(asker)) return false;
    const name = JSON.stringify([asker.entry.tenant, ...asker.entry.avoid]);
    const party = run.parties.get(name) ?? new SortedMap<Place, T>(undefined, byPlace);
    run.parties.set(name, party);
    const before = first(party);
    const place = placeOf(asker.entry, ++this.#seq);
    party.set(place, asker);
    this.#seats.set(asker, { run, party: name, place });
    this.#count(asker, 1);
    if (!run.isHeld && first(party) === asker) {
      if (before !== undefined) this.#stepOut(before);
      this.#lineUp(asker);
    }
    return before === undefined;
  }

  #letGo(run: Run<T>): void {
    run.isHeld = false;
    for (const one of firsts(run)) this.#lineUp(one);
  }

  #lineUp(asker: T): void {
    this.#count(asker, -1);
    this.#line.enter(asker);
  }

  #stepOut(asker: T): void {
    this.#line.leave(asker);
    this.#count(asker, 1);
  }

  #name(run: Run<T>, attempt: string | null): void {
    if (run.attempt !== null && this.#byAttempt.get(run.attempt) === run) this.#byAttempt.delete(run.attempt);
    run.attempt = attempt;
    if (attempt !== null) this.#byAttempt.set(attempt, run);
  }

  #forgetIfIdle(run: Run<T>): void {
    if (run.parties.size === 0 && run.attempt === null && this.#byFingerprint.get(run.fingerprint) === run)
      this.#byFingerprint.delete(run.fingerprint);
  }

  #count({ entry }: T, by: 1 | -1): void {
    this.#followers += by;
    const count = this.followersOf(entry.tenant) + by;
    if (count > 0) this.#perTenant.set(entry.tenant, count);
    else this.#perTenant.delete(entry.tenant);
  }
}

function first<T>(party: SortedMap<Place, T>): T | undefined {
  const place = party.minKey();
  return place === undefined ? undefined : party.get(place);
}

function firsts<T>({ parties }: Run<T>): T[] {
  return Array.from(parties.values(), first).filter((asker) => asker !== undefined);
}

/** Whether a failure of the leader is final: it is running or retrying, after a run was already lost. */
function isLast({ leader, runner, lost }: Run<Asker>): boolean {
  return leader !== null && leader === runner && lost >= LOST_MAX;
}
