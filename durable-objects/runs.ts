/**
 * One run for many: who asked for the same as whom. Pure.
 *
 * A run waits until one of its askers is offered a card. Until then each party (a tenant's askers who avoid the same
 * cards) has its first in line, by its own right, and the others of it follow that one. Whoever is offered a card leads
 * and holds the run: all others follow, out of line. A leader that goes, or has to wait again, lets go of it, and it
 * waits as before. A run that is lost is started again, once; whoever does that holds it until its last try has ended.
 *
 * Always: an asker has one seat at most; of a run that waits, just the first of each party stands in line, and of one
 * that is held nobody but its leader. Every step is logarithmic in askers and linear in the parties of their run; only
 * to tell all of them is linear.
 */
import { byPlace, type Place, placeOf } from "./place.ts";
import type { Entry } from "./pool-protocol.ts";
import { SortedMap } from "./sorted-map.ts";

/** Lost runs after which nobody starts it again. */
const LOST_MAX = 1;

interface Asker {
  entry: Entry;
}

/** Where askers stand in line. */
interface Line<T> {
  enter(asker: T): void;
  leave(asker: T): void;
}

export interface Run<T> {
  fingerprint: string;
  /** The leader's, also of one whose ticket is lost; null: nobody leads. */
  attempt: string | null;
  /** Who was offered a card last; it may wait for another by now. */
  leader: T | null;
  /** Who ran it last, and may try once more; null: nobody, or that run was lost. */
  runner: T | null;
  /** Nobody but the leader may be offered a card for it. */
  isHeld: boolean;
  /** Runs of this that were lost. */
  lost: number;
  parties: Map<string, SortedMap<Place, T>>;
}

interface Seat<T> {
  run: Run<T>;
  party: string;
  place: Place;
}

export class Runs<T extends Asker> {
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

  /** How many follow, out of line. */
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

  /** Those who follow this one, which stands in line. */
  behind(asker: T): T[] {
    const seat = this.#seats.get(asker);
    const run = this.ofLeader(asker.entry.attempt);
    const parties = seat === undefined ? [...(run?.parties.values() ?? [])] : [seat.run.parties.get(seat.party)];
    return parties.flatMap((party) => [...(party?.values() ?? [])]).filter((other) => other !== asker);
  }

  /** A run that a card shows; without a leader its ticket was lost with a restart, and only its lease is seen. */
  adopt(fingerprint: string, attempt: string, leader: T | null): void {
    const run = this.#open(fingerprint);
    run.isHeld = true;
    run.leader = leader;
    this.#name(run, attempt);
  }

  /** Waits with all who ask for the same, in line or following. True: nobody of its party did before. */
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

  /** It is over for it. If it was overtaken after a run of its own, that is lost. */
  leave(asker: T): void {
    const run = this.#seats.get(asker)?.run;
    this.part(asker);
    if (run?.runner !== asker || run.leader === asker) return;
    run.runner = null;
    run.lost++;
  }

  /** Waits no more. */
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

  /** It has a card for it. Who comes late, when another has, runs by itself. */
  hold(fingerprint: string, asker: T): void {
    const run = this.#byFingerprint.get(fingerprint) ?? this.#open(fingerprint);
    if (run.isHeld && run.leader !== asker) return;
    if (!run.isHeld) for (const one of firsts(run)) this.#stepOut(one);
    run.isHeld = true;
    run.leader = asker;
    this.#name(run, asker.entry.attempt);
    this.part(asker);
  }

  /** The leader runs. Whom it overtook has had its run. */
  began(asker: T): void {
    const run = this.ofLeader(asker.entry.attempt);
    if (run === undefined) return;
    if (run.runner !== null && run.runner !== asker) run.lost++;
    run.runner = asker;
  }

  /** The leader did not take what it was offered, and is out of line. */
  missed(asker: T): void {
    const run = this.ofLeader(asker.entry.attempt);
    if (run?.isHeld && !isLast(run)) this.#letGo(run);
  }

  /** The leader tries again under another attempt id. */
  rename(before: string, attempt: string): void {
    const run = this.#byAttempt.get(before);
    if (run !== undefined) this.#name(run, attempt);
  }

  /** The leader is gone: the others wait as before, unless it was lost too often. Gives those who are told so. */
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

  /** Forgets the run. Gives those who asked for it. */
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

/** Its leader runs it, or has failed at a card and tries another: it is lost with it. */
function isLast({ leader, runner, lost }: Run<Asker>): boolean {
  return leader !== null && leader === runner && lost >= LOST_MAX;
}
