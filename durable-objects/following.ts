/** One run for many tickets: who follows whom (runs.ts), and what they do when a run ends or is lost. */
import type { Cards } from "./choose-card.ts";
import type { Clock } from "./clock.ts";
import type { Finish } from "./pool-protocol.ts";
import { type Run, Runs } from "./runs.ts";
import type { TicketState } from "./ticket-state.ts";

/** A run whose ticket was lost with a restart is given this long after its slot is free to say how it ended. */
const ORPHAN_MS = 5_000;
/** Runs that are over, remembered because their card's last report may still show them. */
const OVER_MAX = 1_000;
/** Tickets that follow, in all: they take no slot, but each is somebody who waits. */
const FOLLOWERS_MAX = 10_000;

/** The reason in the finish of a run that was broken off for its caller's going. */
const CALLER_WENT = "client_gone";

/** What becomes of a ticket. */
export interface Ways {
  /** It is told how the run ended. */
  settle(ticket: TicketState, finish: Finish): void;
  /** It runs by itself. */
  line(ticket: TicketState): void;
  pump(): void;
}

export class Following {
  readonly #clock: Clock;
  readonly #ways: Ways;
  readonly #runs = new Runs<TicketState>();
  readonly #over = new Set<string>();

  constructor(clock: Clock, ways: Ways) {
    this.#clock = clock;
    this.#ways = ways;
  }

  /** How many follow. */
  get count(): number {
    return this.#runs.followers;
  }

  countOf(tenant: string): number {
    return this.#runs.followersOf(tenant);
  }

  of(attempt: string): TicketState[] {
    return [...(this.#runs.ofLeader(attempt)?.followers ?? [])];
  }

  /** Follows whoever asked for the same. False: nobody did, or too many follow. */
  join(ticket: TicketState, fingerprint: string, cards: Cards): boolean {
    if (this.#runs.followers >= FOLLOWERS_MAX) return false;
    if (this.#runs.follow(fingerprint, ticket)) return true;
    const attempt = cards.running(fingerprint, this.#over);
    if (attempt === null) return false;
    // It runs since before this object started: its ticket is lost, its lease is not.
    this.#runs.lead(fingerprint, attempt, null);
    return this.#runs.follow(fingerprint, ticket);
  }

  lead(ticket: TicketState, fingerprint: string): void {
    this.#runs.lead(fingerprint, ticket.entry.attempt, ticket);
  }

  rename(before: string, attempt: string): void {
    this.#runs.rename(before, attempt);
  }

  /** Nobody runs under this attempt any more. */
  over(attempt: string): void {
    this.#over.add(attempt);
    for (const oldest of this.#over) {
      if (this.#over.size <= OVER_MAX) break;
      this.#over.delete(oldest);
    }
  }

  /** A ticket is gone: it follows no more, and who followed it does without. */
  left(ticket: TicketState, ran: boolean): void {
    this.#runs.unfollow(ticket);
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#succeed(run, ran);
  }

  ended(attempt: string, finish: Finish): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined) return;
    if (finish.kind === "failed") {
      // A caller who goes takes his own run along, and says nothing of how another would end.
      this.#succeed(run, finish.reason !== CALLER_WENT, finish.reason);
      return;
    }
    this.#runs.end(run);
    for (const ticket of run.followers) {
      if (finish.kind === "alone") this.#alone(ticket);
      else this.#ways.settle(ticket, finish);
    }
    this.#ways.pump();
  }

  /** A slot is free whose run may have followers but no ticket: it may still say how it ended, else it is lost. */
  slotFreed(attempt: string): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined || run.leader !== null) return;
    this.#clock.after(ORPHAN_MS, () => {
      const still = this.#runs.ofLeader(attempt);
      if (still !== undefined) this.#succeed(still, true);
    });
  }

  #succeed(run: Run<TicketState>, ran: boolean, reason = "origin_reset"): void {
    const { next, told } = this.#runs.succeed(run, ran);
    for (const ticket of told) this.#ways.settle(ticket, { kind: "failed", reason });
    if (next === null) return;
    this.#ways.line(next);
    this.#ways.pump();
  }

  #alone(ticket: TicketState): void {
    ticket.entry = { ...ticket.entry, fingerprint: null };
    this.#ways.line(ticket);
  }
}
