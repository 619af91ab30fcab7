/** Request coalescing: lets many tickets share one run (shared-runs.ts), and handles runs that end or are lost. */
import type { Cards } from "./choose-card.ts";
import type { Clock } from "./clock.ts";
import type { Finish } from "./pool-protocol.ts";
import { type Run, SharedRuns } from "./shared-runs.ts";
import type { TicketState } from "./ticket-state.ts";

/** How long after its slot is free a run whose ticket was lost in a restart may still report its outcome. */
const ORPHAN_MS = 5_000;
/** Attempts remembered as over, because their card's last report may still show them. */
const OVER_MAX = 1_000;
/** Maximum number of followers. They take no slot, but each is a waiting request. */
const FOLLOWERS_MAX = 10_000;

/** The failure reason of a run that was aborted because its caller left. */
const CALLER_WENT = "client_gone";

/** What the Coalescer does to tickets. */
export interface TicketEffects {
  /** Put the ticket into the queue, and take it out. */
  enter(ticket: TicketState): void;
  leave(ticket: TicketState): void;
  /** Tells the ticket the outcome of the run. */
  settle(ticket: TicketState, finish: Finish): void;
  pump(): void;
}

export class Coalescer {
  readonly #clock: Clock;
  readonly #effects: TicketEffects;
  readonly #runs: SharedRuns<TicketState>;
  readonly #over = new Set<string>();

  constructor(clock: Clock, effects: TicketEffects) {
    this.#clock = clock;
    this.#effects = effects;
    this.#runs = new SharedRuns(effects);
  }

  /** The number of followers. */
  get count(): number {
    return this.#runs.followers;
  }

  countOf(tenant: string): number {
    return this.#runs.followersOf(tenant);
  }

  /** The followers of this ticket, which is in the queue. */
  behind(ticket: TicketState): TicketState[] {
    return this.#runs.behind(ticket);
  }

  /** The ticket that is in the queue for this one, possibly itself; null: none is, or its run has a card. */
  inLineFor(ticket: TicketState): TicketState | null {
    return this.#runs.inLineFor(ticket);
  }

  /** Whether the ticket follows a run that has a card. */
  isOnCard(ticket: TicketState): boolean {
    const run = this.#runs.heldFor(ticket);
    // A run that is known only from a card's report has no leader here.
    return run !== null && (run.leader === null || run.leader.phase === "offered" || run.leader.phase === "running");
  }

  /**
   * Makes the ticket follow a run of the same request that has a card. Returns false if there is none, or if there are
   * too many followers and the ticket is to run alone.
   */
  follow(ticket: TicketState, cards: Cards, tickets: ReadonlyMap<string, TicketState>): boolean {
    const { fingerprint } = ticket.entry;
    if (fingerprint === null) return false;
    if (this.#runs.followers >= FOLLOWERS_MAX) {
      ticket.entry = { ...ticket.entry, fingerprint: null };
      return false;
    }
    if (this.#runs.ofFingerprint(fingerprint) === undefined) {
      // It may have started before this object (its ticket is lost, its lease is not), or run alone.
      const attempt = cards.running(fingerprint, this.#over);
      if (attempt !== null) this.#runs.adopt(fingerprint, attempt, tickets.get(attempt) ?? null);
    }
    if (!this.#runs.ofFingerprint(fingerprint)?.isHeld) return false;
    this.#runs.join(fingerprint, ticket);
    return true;
  }

  /**
   * Makes the ticket wait: in the queue, or following one that is ahead of it or has a card. Returns true if no other
   * ticket of its tenant already waits for the same.
   */
  wait(ticket: TicketState): boolean {
    const { fingerprint } = ticket.entry;
    if (fingerprint !== null) return this.#runs.join(fingerprint, ticket);
    this.#effects.enter(ticket);
    return true;
  }

  /** The ticket has a card: others with the same fingerprint now follow it. */
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

  /** The ticket stops waiting for now. */
  part(ticket: TicketState): void {
    this.#runs.part(ticket);
    this.#effects.leave(ticket);
  }

  /** The ticket stops waiting for good. */
  leave(ticket: TicketState): void {
    this.#runs.leave(ticket);
    this.#effects.leave(ticket);
  }

  rename(before: string, attempt: string): void {
    this.#runs.rename(before, attempt);
  }

  /** The attempt no longer runs. */
  over(attempt: string): void {
    this.#over.add(attempt);
    for (const oldest of this.#over) {
      if (this.#over.size <= OVER_MAX) break;
      this.#over.delete(oldest);
    }
  }

  /** A ticket is gone. Its followers, if any, wait for another leader or fail. */
  left(ticket: TicketState, ran: boolean): void {
    const run = this.#runs.ofLeader(ticket.entry.attempt);
    if (run !== undefined) this.#lose(run, ran);
  }

  ended(attempt: string, finish: Finish): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined) return;
    if (finish.kind === "failed") {
      // A caller who leaves aborts only their own run; that says nothing about how another run would end.
      this.#lose(run, finish.reason !== CALLER_WENT, finish.reason);
      return;
    }
    for (const ticket of this.#runs.end(run)) {
      if (finish.kind === "alone") this.#alone(ticket);
      else this.#effects.settle(ticket, finish);
    }
    this.#effects.pump();
  }

  /** A slot became free. If its run has followers but no ticket, its outcome may still arrive; else the run is lost. */
  slotFreed(attempt: string): void {
    const run = this.#runs.ofLeader(attempt);
    if (run === undefined || run.leader !== null) return;
    this.#clock.after(ORPHAN_MS, () => {
      const still = this.#runs.ofLeader(attempt);
      if (still !== undefined) this.#lose(still, true);
    });
  }

  #lose(run: Run<TicketState>, ran: boolean, reason = "origin_reset"): void {
    for (const ticket of this.#runs.lose(run, ran)) this.#effects.settle(ticket, { kind: "failed", reason });
    this.#effects.pump();
  }

  #alone(ticket: TicketState): void {
    ticket.entry = { ...ticket.entry, fingerprint: null };
    this.#effects.enter(ticket);
  }
}
