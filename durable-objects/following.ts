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
  /** Into the line, and out of it. */
  enter(ticket: TicketState): void;
  leave(ticket: TicketState): void;
  /** It is told how the run ended. */
  settle(ticket: TicketState, finish: Finish): void;
  pump(): void;
}

export class Following {
  readonly #clock: Clock;
  readonly #ways: Ways;
  readonly #runs: Runs<TicketState>;
  readonly #over = new Set<string>();

  constructor(clock: Clock, ways: Ways) {
    this.#clock = clock;
    this.#ways = ways;
    this.#runs = new Runs(ways);
  }

  /** How many follow. */
  get count(): number {
    return this.#runs.followers;
  }

  countOf(tenant: string): number {
    return this.#runs.followersOf(tenant);
  }

  /** Those who follow this one, which stands in line. */
  behind(ticket: TicketState): TicketState[] {
    return this.#runs.behind(ticket);
  }

  /** Follows whoever has a card for the same. False: nobody has, or too many follow, and it runs alone. */
  follow(ticket: TicketState, cards: Cards, tickets: ReadonlyMap<string, TicketState>): boolean {
    const { fingerprint } = ticket.entry;
    if (fingerprint === null) return false;
    if (this.#runs.followers >= FOLLOWERS_MAX) {
      ticket.entry = { ...ticket.entry, fingerprint: null };
      return false;
    }
    if (this.#runs.ofFingerprint(fingerprint) === undefined) {
      // It may run since before this object started (its ticket is lost, its lease is not), or by itself.
      const attempt = cards.running(fingerprint, this.#over);
      if (attempt !== null) this.#runs.adopt(fingerprint, attempt, tickets.get(attempt) ?? null);
    }
    if (!this.#runs.ofFingerprint(fingerprint)?.isHeld) return false;
    this.#runs.join(fingerprint, ticket);
    return true;
  }

  /**
   * Waits in line, or for one that goes before it or has a card. True: none of its tenant waits for the same in its
   * stead.
   */
  wait(ticket: TicketState): boolean {
    const { fingerprint } = ticket.entry;
    if (fingerprint !== null) return this.#runs.join(fingerprint, ticket);
    this.#ways.enter(ticket);
    return true;
  }

  /** It has a card: who asked for the same follows it. */
  hold(ticket: TicketState): void {
    const { fingerprint } = ticket.entry;
    if (fingerprint !== null) this.#runs.hold(fingerprint, ticket);
  }

  began(ticket: TicketState): void {
    this.#runs.began(ticket);
  }

  missed(ticket: TicketState): void {
    this.#runs.missed(ticket);
  }

  /** It waits no more. */
  part(ticket: TicketState): void {
    this.#runs.part(ticket);
    this.#ways.leave(ticket);
  }

  /** It waits no more, and never will. */
  leave(ticket: TicketState): void {
    this.#runs.leave(ticket);
    this.#ways.leave(ticket);
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

  /** A ticket is gone: who followed it does without. */
  left(ticket: TicketState, ran: boolean): void {
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#lose(run, ran);
  }

  ended(attempt: string, finish: Finish): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined) return;
    if (finish.kind === "failed") {
      // A caller who goes takes his own run along, and says nothing of how another would end.
      this.#lose(run, finish.reason !== CALLER_WENT, finish.reason);
      return;
    }
    for (const ticket of this.#runs.end(run)) {
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
      if (still !== undefined) this.#lose(still, true);
    });
  }

  #lose(run: Run<TicketState>, ran: boolean, reason = "origin_reset"): void {
    for (const ticket of this.#runs.lose(run, ran)) this.#ways.settle(ticket, { kind: "failed", reason });
    this.#ways.pump();
  }

  #alone(ticket: TicketState): void {
    ticket.entry = { ...ticket.entry, fingerprint: null };
    this.#ways.enter(ticket);
  }
}
