/**
 * One run for many: who asked for the same as whom. Pure.
 *
 * A run has a leader (the attempt that waits, runs, or ran) and followers in the order of their coming. It ends when
 * its leader's end is known; a lost leader is succeeded by the first follower.
 */

/** Lost runs after which nobody starts it again. */
const LOST_MAX = 1;

interface Follower {
  entry: { tenant: string; attempt: string };
}

export interface Run<T extends Follower> {
  fingerprint: string;
  attempt: string;
  /** Null: the leader's ticket was lost with a restart; only its lease is seen. */
  leader: T | null;
  followers: Set<T>;
  /** Runs of this that were lost. */
  lost: number;
}

export class Runs<T extends Follower> {
  readonly #byFingerprint = new Map<string, Run<T>>();
  readonly #byAttempt = new Map<string, Run<T>>();
  readonly #byFollower = new Map<T, Run<T>>();
  readonly #perTenant = new Map<string, number>();

  get followers(): number {
    return this.#byFollower.size;
  }

  followersOf(tenant: string): number {
    return this.#perTenant.get(tenant) ?? 0;
  }

  lead(fingerprint: string, attempt: string, leader: T | null, lost = 0, followers: Set<T> = new Set()): void {
    const run: Run<T> = { fingerprint, attempt, leader, followers: new Set(), lost };
    this.#byFingerprint.set(fingerprint, run);
    this.#byAttempt.set(attempt, run);
    for (const follower of followers) this.#join(run, follower);
  }

  /** Follows the run of this fingerprint if there is one. */
  follow(fingerprint: string, follower: T): boolean {
    const run = this.#byFingerprint.get(fingerprint);
    if (run === undefined) return false;
    this.#join(run, follower);
    return true;
  }

  unfollow(follower: T): void {
    const run = this.#byFollower.get(follower);
    if (run === undefined) return;
    run.followers.delete(follower);
    this.#part(follower);
  }

  ofLeader(attempt: string): Run<T> | undefined {
    return this.#byAttempt.get(attempt);
  }

  /** The leader tries again under another attempt id. */
  rename(before: string, attempt: string): void {
    const run = this.#byAttempt.get(before);
    if (run === undefined) return;
    this.#byAttempt.delete(before);
    run.attempt = attempt;
    this.#byAttempt.set(attempt, run);
  }

  /** The run is lost: the next follower starts it again, once; after that all are told. */
  succeed(run: Run<T>, ran: boolean): { next: T | null; told: T[] } {
    const [next, ...rest] = run.followers;
    const lost = run.lost + (ran ? 1 : 0);
    this.end(run);
    if (next === undefined) return { next: null, told: [] };
    if (lost > LOST_MAX) return { next: null, told: [next, ...rest] };
    this.lead(run.fingerprint, next.entry.attempt, next, lost, new Set(rest));
    return { next, told: [] };
  }

  /** Forgets the run; its followers stay in `run.followers` for whoever tells them. */
  end(run: Run<T>): void {
    if (this.#byFingerprint.get(run.fingerprint) === run) this.#byFingerprint.delete(run.fingerprint);
    if (this.#byAttempt.get(run.attempt) === run) this.#byAttempt.delete(run.attempt);
    for (const follower of run.followers) this.#part(follower);
  }

  #join(run: Run<T>, follower: T): void {
    if (run.followers.has(follower)) return;
    run.followers.add(follower);
    this.#byFollower.set(follower, run);
    this.#perTenant.set(follower.entry.tenant, this.followersOf(follower.entry.tenant) + 1);
  }

  #part(follower: T): void {
    if (!this.#byFollower.delete(follower)) return;
    const left = this.followersOf(follower.entry.tenant) - 1;
    if (left > 0) this.#perTenant.set(follower.entry.tenant, left);
    else this.#perTenant.delete(follower.entry.tenant);
  }
}
