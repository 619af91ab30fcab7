/** Stage 5: dispatch. Takes a request from the line to a lease: enter the Pool, wait for an offer, claim the card. */
import type { Attempt } from "../durable-objects/card-protocol.ts";
import type { Entry, Finish, Observed, OfferReply, PoolRefusal } from "../durable-objects/pool-protocol.ts";
import type { Env } from "./env.ts";
import { Lease, unclaim } from "./run/lease.ts";
import { detail } from "./details.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { withTimeout, CallTimeout } from "../durable-objects/timeout.ts";

/** Maximum consecutive entries into a Pool without getting a place in line: the Pool may be behind or restarting. */
const ENTRIES_MAX = 6;
/** Maximum tries of one offer's claim when the Card's reply is lost. */
const CLAIM_TRIES_MAX = 3;
/** Longest wait for one reply about the line, ms. A Pool with nothing to report answers earlier. */
const OFFER_MS_MAX = 30_000;
/** Retry-After when the Pool is lost or overloaded, ms. The Pool gave no estimate, so this is a guess. */
const LOST_POOL_RETRY_MS = 5_000;
/** Longest random pause before the first repeat, ms; it grows with each repeat. */
const PAUSE_MS = 100;

const LEFT = "the request has left the line";

export type Offer =
  | { kind: "offer"; card: string; pressed: boolean; others: boolean; slotsLeft: number }
  | { kind: "told"; finish: Finish }
  | { kind: "refused"; refusal: Refusal };

export type Offered = Extract<Offer, { kind: "offer" }>;
export type Told = Extract<Offer, { kind: "told" }>;

type TicketStub = Awaited<ReturnType<ReturnType<Env["POOL"]["getByName"]>["enter"]>>;

/** Work that a Line delegates to its creator. */
export interface LineEffects {
  /** Brings the Pool and its Cards up to the current configuration. */
  provision: () => Promise<void>;
  /** Keeps background work alive (`waitUntil`). */
  later: (work: Promise<unknown>) => void;
}

/** One request's place in line, across all its tries. */
export class Line {
  readonly #env: Env;
  readonly #service: string;
  readonly #effects: LineEffects;
  #entry: Entry;
  #ticket: TicketStub | null = null;
  #entries = 0;
  /** The request has left the line: a call still in flight must not enter again. */
  #left = false;
  /** The last call to the Pool timed out. */
  #wasSilent = false;
  /** The last notification that was sent without waiting for it. */
  #told: Promise<void> = Promise.resolve();

  constructor(env: Env, service: string, entry: Entry, effects: LineEffects) {
    this.#env = env;
    this.#service = service;
    this.#entry = entry;
    this.#effects = effects;
  }

  get attempt(): string {
    return this.#entry.attempt;
  }

  /** Waits for an offer, the outcome of an identical request's run, or a refusal. */
  async offer(): Promise<Offer> {
    for (;;) {
      const reply = await this.#ask();
      if (reply === null) return { kind: "refused", refusal: lostPool() };
      // This entry succeeded, so the count starts over: a job that waits for days survives any number of Pool restarts.
      if (reply.kind === "waiting" || reply.kind === "offer") this.#entries = 1;
      if (reply.kind === "waiting") continue;
      if (reply.kind === "offer" || reply.kind === "told") return reply;
      if (reply.kind === "refused") return { kind: "refused", refusal: poolRefusal(reply.refusal) };
      this.#drop();
      await this.#effects.provision();
    }
  }

  /** Calls the Pool once. Enters a lost Pool again with the same place. Null when the Pool cannot be reached. */
  async #ask(): Promise<OfferReply | null> {
    for (;;) {
      if (this.#left) throw new Error(LEFT);
      try {
        const reply = await (this.#ticket === null ? this.#enter() : withTimeout(this.#ticket.offer(), OFFER_MS_MAX));
        this.#wasSilent = false;
        return reply;
      } catch (error) {
        // A process that was suspended sees its own timeout expire before it reads the reply, so it asks once more.
        if (error instanceof CallTimeout && this.#ticket !== null && !this.#wasSilent && !this.#left) {
          this.#wasSilent = true;
          continue;
        }
        this.#drop();
        if (this.#left) throw error;
        this.#entry = { ...this.#entry, again: true };
        if (this.#entries >= ENTRIES_MAX || isBeyond(error)) {
          console.warn(JSON.stringify({ event: "pool_lost", service: this.#service, error: String(error) }));
          return null;
        }
        await scheduler.wait(PAUSE_MS * this.#entries * Math.random());
      }
    }
  }

  /** Enters and asks for an offer in one round trip: the second call is pipelined on the ticket still on its way. */
  async #enter(): Promise<OfferReply> {
    if (++this.#entries > ENTRIES_MAX) throw new Error("the pool does not take this request");
    const entering = this.#env.POOL.getByName(this.#service).enter(this.#entry);
    const offer = entering.offer();
    // If entering fails, this promise rejects too; without a handler that would be an unhandled rejection.
    offer.catch(() => undefined);
    const ticket = await withTimeout(entering);
    if (this.#left) {
      ticket[Symbol.dispose]();
      throw new Error(LEFT);
    }
    this.#ticket = ticket;
    return await withTimeout(offer, OFFER_MS_MAX);
  }

  /** Claims an offered card. Returns null when the Card refused, in which case the request keeps waiting. */
  async claim({ card, pressed }: Offered, attempt: Omit<Attempt, "attempt">): Promise<Lease | null> {
    for (let tries = 1; ; tries++) {
      try {
        const { address } = this.#entry;
        const from = address === undefined ? {} : { address };
        const claim = this.#env.CARD.getByName(card).claim({ ...attempt, ...from, attempt: this.attempt, pressed });
        const reply = await withTimeout(claim);
        if ("no" in reply) {
          // An earlier try whose reply was lost may still arrive at the Card.
          if (tries > 1) this.#effects.later(unclaim(this.#env, card, this.attempt));
          if (reply.no === "unlisted") await this.#effects.provision();
          // An attempt id is used once: after it has ended, the request asks again under a new id.
          if (reply.no === "ended") await this.retry(this.#entry.avoid);
          else await this.#tell((ticket) => ticket.declined(card, reply.no));
          return null;
        }
        const { number, origin, transport } = reply;
        const lease = new Lease(this.#env, { card, number, attempt: this.attempt, origin, transport }, reply.lease);
        // The run does not wait until the Pool knows. Later notifications are sent after this one.
        this.#told = this.#tell((ticket) => ticket.claimed(number));
        return lease;
      } catch (error) {
        // The claim may hold although its reply was lost: repeating it with the same attempt id returns the same lease.
        if (tries === CLAIM_TRIES_MAX || isBeyond(error)) {
          this.#effects.later(unclaim(this.#env, card, this.attempt));
          await this.#tell((ticket) => ticket.declined(card, "full"));
          await this.retry(this.#entry.avoid);
          return null;
        }
        await scheduler.wait(PAUSE_MS * tries * Math.random());
      }
    }
  }

  /**
   * Returns to the line under a new attempt id, keeping the original arrival time. `avoid`: the cards already tried.
   * Returns false when the pool's retry budget is exhausted.
   */
  async retry(avoid: string[]): Promise<boolean> {
    const attempt = newAttempt();
    let allowed = true;
    let isHeard = false;
    await this.#tell(async (ticket) => {
      allowed = await ticket.retry(attempt, avoid);
      isHeard = true;
    });
    // A restarted Pool may know the old attempt by its lease; when this request re-enters, it must not follow it.
    if (!isHeard) await this.#finishedLost({ kind: "failed", reason: "client_gone" }, null);
    if (allowed) this.#entry = { ...this.#entry, attempt, avoid, again: true };
    return allowed;
  }

  /** Enters the line again after a final reply, when the answer of the run it followed cannot be read. */
  again(): void {
    this.#drop();
    this.#entry = { ...this.#entry, attempt: newAttempt(), again: true };
  }

  /** Reports the end of the run; the Pool passes it to the followers. */
  async finished(finish: Finish, observed: Observed | null): Promise<void> {
    this.#left = true;
    await this.#told;
    try {
      if (this.#ticket === null) throw new Error("the ticket is lost");
      await withTimeout(this.#ticket.finished(finish, observed));
    } catch {
      await this.#finishedLost(finish, observed);
    }
    this.#drop();
  }

  /** Reports the end of an attempt to a Pool that has lost the ticket but may know the attempt by its lease. */
  async #finishedLost(finish: Finish, observed: Observed | null): Promise<void> {
    try {
      await withTimeout(this.#env.POOL.getByName(this.#service).finished(this.attempt, finish, observed));
    } catch (error) {
      console.warn(JSON.stringify({ event: "finish_lost", error: String(error) }));
    }
  }

  /** Leaves the line, whatever the state. */
  async leave(): Promise<void> {
    this.#left = true;
    await this.#tell((ticket) => ticket.leave());
    this.#drop();
  }

  async #tell(say: (ticket: TicketStub) => Promise<void>): Promise<void> {
    const ticket = this.#ticket;
    if (ticket === null) return;
    try {
      await withTimeout(say(ticket));
    } catch {
      // A lost Pool has forgotten this ticket. The next call enters again, or has already done so.
      if (this.#ticket === ticket) this.#drop();
    }
  }

  #drop(): void {
    this.#ticket?.[Symbol.dispose]();
    this.#ticket = null;
  }
}

export function newAttempt(): string {
  return `att_${crypto.randomUUID()}`;
}

/** An object that is overloaded, or slow enough to time out, is not called again at once. */
function isBeyond(error: unknown): boolean {
  return error instanceof CallTimeout || (error as { overloaded?: boolean }).overloaded === true;
}

function lostPool(): Refusal {
  return refuse("queue_full", { facts: detail("queue_silent"), retryAfterMs: LOST_POOL_RETRY_MS });
}

function poolRefusal(refusal: PoolRefusal): Refusal {
  const { reason, retryAfterMs } = refusal;
  switch (refusal.reason) {
    case "concurrency":
      return refuse(reason, {
        retryAfterMs,
        facts: {
          waiting: refusal.waiting,
          max: refusal.max,
          of: refusal.of,
        },
      });
    case "queue_full":
      return refuse(reason, {
        retryAfterMs,
        facts: detail("queue_length", { length: refusal.length, max: refusal.max }),
      });
    case "queue_timeout":
      return refuse(reason, { retryAfterMs, facts: { waited_s: Math.round(refusal.waitedMs / 1000) } });
    case "deadline_unmeetable":
      return refuse(reason, { retryAfterMs, facts: { estimate_s: Math.round(refusal.estimateMs / 100) / 10 } });
    case "no_healthy_card":
      return refuse(reason, { retryAfterMs, facts: { cause: refusal.cause ?? "" } });
    case "paused":
      return refuse(reason, { retryAfterMs });
  }
}
