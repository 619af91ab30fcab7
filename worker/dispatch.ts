/**
 * Stage 5: who runs it. A request's way through the line to a lease: enter the Pool, wait for an offer, claim at the
 * Card, renew while it runs, release when the origin's answer has ended.
 */
import {
  type Attempt,
  type Ending,
  type Entry,
  type Finish,
  LEASE_RENEW_MS,
  type Observed,
  type OfferReply,
  type PoolRefusal,
  type Transport,
} from "../durable-objects/protocol.ts";
import type { Env } from "./env.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** Times that a request enters a Pool: for a Pool that is behind or restarts. */
const ENTRIES_MAX = 6;
/** Times that one offer's claim is tried, when the Card's reply is lost. */
const CLAIM_TRIES_MAX = 3;
const RELEASE_TRIES_MAX = 5;
const PAUSE_MS = 100;

const LEFT = "the request has left the line";

export type Offer =
  | { kind: "offer"; card: string }
  | { kind: "told"; finish: Finish }
  | { kind: "refused"; refusal: Refusal };

type TicketStub = Awaited<ReturnType<ReturnType<Env["POOL"]["getByName"]>["enter"]>>;

/** One request's place in line, over all its tries. */
export class Line {
  readonly #env: Env;
  readonly #service: string;
  readonly #provision: () => Promise<void>;
  #entry: Entry;
  #ticket: TicketStub | null = null;
  #entries = 0;
  /** Nobody waits any more: a question that is still under way must not enter again. */
  #left = false;
  /** What was said last without waiting for it. */
  #told: Promise<void> = Promise.resolve();

  constructor(env: Env, service: string, entry: Entry, provision: () => Promise<void>) {
    this.#env = env;
    this.#service = service;
    this.#entry = entry;
    this.#provision = provision;
  }

  get attempt(): string {
    return this.#entry.attempt;
  }

  /** Waits for an offer, a finish of somebody who asked for the same, or a no. */
  async offer(): Promise<Offer> {
    for (;;) {
      const reply = await this.#ask();
      if (reply.kind === "waiting") continue;
      if (reply.kind === "offer" || reply.kind === "told") return reply;
      if (reply.kind === "refused") return { kind: "refused", refusal: poolRefusal(reply.refusal) };
      this.#drop();
      await this.#provision();
    }
  }

  /** One question to the Pool; a lost Pool is entered again with the same place. */
  async #ask(): Promise<OfferReply> {
    for (;;) {
      if (this.#left) throw new Error(LEFT);
      try {
        this.#ticket ??= await this.#enter();
        return await this.#ticket.offer();
      } catch (error) {
        this.#drop();
        if (this.#left) throw error;
        this.#entry = { ...this.#entry, again: true };
        if (this.#entries >= ENTRIES_MAX || isOverloaded(error)) {
          return { kind: "refused", refusal: { reason: "queue_full", length: 0, max: 0, retryAfterMs: 1000 } };
        }
        await scheduler.wait(PAUSE_MS * this.#entries * Math.random());
      }
    }
  }

  async #enter(): Promise<TicketStub> {
    if (++this.#entries > ENTRIES_MAX) throw new Error("the pool does not take this request");
    const ticket = await this.#env.POOL.getByName(this.#service).enter(this.#entry);
    if (!this.#left) return ticket;
    ticket[Symbol.dispose]();
    throw new Error(LEFT);
  }

  /** Claims an offered card. Null: the Card said no, and the request waits on. */
  async claim(card: string, attempt: Omit<Attempt, "attempt">): Promise<Lease | null> {
    for (let tries = 1; ; tries++) {
      try {
        const reply = await this.#env.CARD.getByName(card).claim({ ...attempt, attempt: this.attempt });
        if ("no" in reply) {
          if (reply.no === "unlisted") await this.#provision();
          // An attempt has one life: what has ended asks again under a new id.
          if (reply.no === "ended") await this.retry(this.#entry.avoid);
          else await this.#tell((ticket) => ticket.declined(card, reply.no));
          return null;
        }
        const { number, origin, transport } = reply;
        const lease = new Lease(this.#env, { card, number, attempt: this.attempt, origin, transport }, reply.lease);
        // The run need not wait until the Pool knows; later words to it come after this one.
        this.#told = this.#tell((ticket) => ticket.claimed(number));
        return lease;
      } catch (error) {
        // The reply may be lost while the claim stands: the same attempt gets the same lease.
        if (tries === CLAIM_TRIES_MAX || isOverloaded(error)) {
          await this.#tell((ticket) => ticket.declined(card, "full"));
          return null;
        }
        await scheduler.wait(PAUSE_MS * tries * Math.random());
      }
    }
  }

  /** Back to the line for another try at another card, with the place of its arrival. */
  async retry(avoid: string[]): Promise<void> {
    const attempt = newAttempt();
    const before = this.#entry;
    this.#entry = { ...before, attempt, avoid, again: true };
    await this.#tell((ticket) => ticket.retry(attempt, avoid));
  }

  /** Enters anew after a last word: what somebody else ran is not to be had. */
  again(): void {
    this.#drop();
    this.#entry = { ...this.#entry, attempt: newAttempt(), again: true };
  }

  /** The run is over; those who asked for the same are told how. */
  async finished(finish: Finish, observed: Observed | null): Promise<void> {
    await this.#told;
    try {
      if (this.#ticket === null) throw new Error("the ticket is lost");
      await this.#ticket.finished(finish, observed);
    } catch {
      // The Pool restarted: it may know of this run by its lease.
      await this.#env.POOL.getByName(this.#service)
        .finished(this.attempt, finish, observed)
        .catch((error: unknown) => console.warn(JSON.stringify({ event: "finish_lost", error: String(error) })));
    }
    this.#drop();
  }

  /** Out of the line, whatever the state. */
  async leave(): Promise<void> {
    this.#left = true;
    await this.#tell((ticket) => ticket.leave());
    this.#drop();
  }

  async #tell(say: (ticket: TicketStub) => Promise<void>): Promise<void> {
    const ticket = this.#ticket;
    if (ticket === null) return;
    try {
      await say(ticket);
    } catch {
      // A lost Pool forgot this ticket; the next question enters anew, or has done so.
      if (this.#ticket === ticket) this.#drop();
    }
  }

  #drop(): void {
    this.#ticket?.[Symbol.dispose]();
    this.#ticket = null;
  }
}

interface LeaseHandle extends Disposable {
  renew(): Promise<{ renewed: boolean }>;
  release(ending: Ending): Promise<unknown>;
}

export interface Grant {
  card: string;
  number: number;
  attempt: string;
  origin: string;
  transport: Transport;
}

/** A held slot. Renewed until released; when a renewal is refused the run must stop: `lost` is called. */
export class Lease {
  readonly grant: Grant;
  readonly #env: Env;
  readonly #handle: LeaseHandle;
  #timer: ReturnType<typeof setInterval>;
  #released = false;
  lost: () => void = () => undefined;

  constructor(env: Env, grant: Grant, handle: LeaseHandle) {
    this.#env = env;
    this.grant = grant;
    this.#handle = handle;
    this.#timer = setInterval(() => void this.#renew(), LEASE_RENEW_MS);
  }

  async #renew(): Promise<void> {
    const { card, number, attempt } = this.grant;
    try {
      const reply = await this.#askRenewal(card, number, attempt);
      if (!reply.renewed && !this.#released) {
        clearInterval(this.#timer);
        this.lost();
      }
    } catch (error) {
      // The next renewal is due before the lease ends.
      console.warn(JSON.stringify({ event: "renewal_missed", card, number, error: String(error) }));
    }
  }

  /** A Card that restarted breaks the handle, not the lease. */
  async #askRenewal(card: string, number: number, attempt: string): Promise<{ renewed: boolean }> {
    try {
      return await this.#handle.renew();
    } catch {
      return await this.#env.CARD.getByName(card).renew(number, attempt);
    }
  }

  /** The holder's last word; the first one counts. */
  async release(ending: Ending): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    clearInterval(this.#timer);
    const { card, number, attempt } = this.grant;
    try {
      await this.#handle.release(ending);
    } catch {
      await this.#releaseByNumber(ending, card, number, attempt);
    }
    this.#handle[Symbol.dispose]();
  }

  async #releaseByNumber(ending: Ending, card: string, number: number, attempt: string): Promise<void> {
    for (let tries = 1; tries <= RELEASE_TRIES_MAX; tries++) {
      try {
        await this.#env.CARD.getByName(card).release(number, attempt, ending);
        return;
      } catch (error) {
        if (tries === RELEASE_TRIES_MAX)
          console.error(JSON.stringify({ event: "release_lost", card, number, error: String(error) }));
        else await scheduler.wait(PAUSE_MS * 2 ** tries);
      }
    }
  }
}

export function newAttempt(): string {
  return `att_${crypto.randomUUID()}`;
}

/** Overloaded objects must not be asked again at once. */
function isOverloaded(error: unknown): boolean {
  return (error as { overloaded?: boolean }).overloaded === true;
}

function poolRefusal(refusal: PoolRefusal): Refusal {
  const { reason, retryAfterMs } = refusal;
  switch (refusal.reason) {
    case "concurrency":
      return refuse(reason, { retryAfterMs, facts: { waiting: refusal.waiting, max: refusal.max } });
    case "queue_full":
      return refuse(reason, { retryAfterMs, facts: { length: refusal.length, max: refusal.max } });
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
