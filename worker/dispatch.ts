/** Stage 5: who runs it. A request's way through the line to a lease: enter the Pool, wait for an offer, claim. */
import type { Attempt } from "../durable-objects/card-protocol.ts";
import type { Entry, Finish, Observed, OfferReply, PoolRefusal } from "../durable-objects/pool-protocol.ts";
import type { Env } from "./env.ts";
import { Lease, unclaim } from "./run/lease.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { answered, Silent } from "../durable-objects/answer-protocol.ts";

/** Times in a row that a request enters a Pool and hears nothing of its place: for a Pool that is behind or restarts. */
const ENTRIES_MAX = 6;
/** Times that one offer's claim is tried, when the Card's reply is lost. */
const CLAIM_TRIES_MAX = 3;
/** Longest wait for one word about the line, ms; a Pool that has nothing to say answers earlier. */
const OFFER_MS_MAX = 30_000;
/** When those may come back whom a Pool that is lost or overloaded could not take, ms: it was not said, so it is a guess. */
const LOST_POOL_RETRY_MS = 5_000;
/** Longest random pause before the first repeat; it grows with the repeats. */
const PAUSE_MS = 100;

const LEFT = "the request has left the line";

export type Offer =
  | { kind: "offer"; card: string; pressed: boolean; others: boolean; slotsLeft: number }
  | { kind: "told"; finish: Finish }
  | { kind: "refused"; refusal: Refusal };

export type Offered = Extract<Offer, { kind: "offer" }>;
export type Told = Extract<Offer, { kind: "told" }>;

type TicketStub = Awaited<ReturnType<ReturnType<Env["POOL"]["getByName"]>["enter"]>>;

/** What a line has done outside. */
export interface Errands {
  /** Brings the Pool and its Cards up to what is configured. */
  provision: () => Promise<void>;
  /** Holds work that nobody waits for. */
  later: (work: Promise<unknown>) => void;
}

/** One request's place in line, over all its tries. */
export class Line {
  readonly #env: Env;
  readonly #service: string;
  readonly #errands: Errands;
  #entry: Entry;
  #ticket: TicketStub | null = null;
  #entries = 0;
  /** Nobody waits any more: a question that is still under way must not enter again. */
  #left = false;
  /** The last question got no answer in its time. */
  #wasSilent = false;
  /** What was said last without waiting for it. */
  #told: Promise<void> = Promise.resolve();

  constructor(env: Env, service: string, entry: Entry, errands: Errands) {
    this.#env = env;
    this.#service = service;
    this.#entry = entry;
    this.#errands = errands;
  }

  get attempt(): string {
    return this.#entry.attempt;
  }

  /** Waits for an offer, a finish of somebody who asked for the same, or a no. */
  async offer(): Promise<Offer> {
    for (;;) {
      const reply = await this.#ask();
      if (reply === null) return { kind: "refused", refusal: lostPool() };
      // This entering was a good one: who waits for days outlives any number of restarts.
      if (reply.kind === "waiting" || reply.kind === "offer") this.#entries = 1;
      if (reply.kind === "waiting") continue;
      if (reply.kind === "offer" || reply.kind === "told") return reply;
      if (reply.kind === "refused") return { kind: "refused", refusal: poolRefusal(reply.refusal) };
      this.#drop();
      await this.#errands.provision();
    }
  }

  /** One question to the Pool; a lost Pool is entered again with the same place. Null: it cannot be had. */
  async #ask(): Promise<OfferReply | null> {
    for (;;) {
      if (this.#left) throw new Error(LEFT);
      try {
        const reply = await (this.#ticket === null ? this.#enter() : answered(this.#ticket.offer(), OFFER_MS_MAX));
        this.#wasSilent = false;
        return reply;
      } catch (error) {
        // A process that was stopped finds its own time run out before it hears the answer: it asks once more.
        if (error instanceof Silent && this.#ticket !== null && !this.#wasSilent && !this.#left) {
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

  /** Enters and asks in one round trip: the question goes out before the ticket is here. */
  async #enter(): Promise<OfferReply> {
    if (++this.#entries > ENTRIES_MAX) throw new Error("the pool does not take this request");
    const entering = this.#env.POOL.getByName(this.#service).enter(this.#entry);
    const offer = entering.offer();
    // It fails with the entering, and is nobody's loose end then.
    offer.catch(() => undefined);
    const ticket = await answered(entering);
    if (this.#left) {
      ticket[Symbol.dispose]();
      throw new Error(LEFT);
    }
    this.#ticket = ticket;
    return await answered(offer, OFFER_MS_MAX);
  }

  /** Claims an offered card. Null: the Card said no, and the request waits on. */
  async claim({ card, pressed }: Offered, attempt: Omit<Attempt, "attempt">): Promise<Lease | null> {
    for (let tries = 1; ; tries++) {
      try {
        const { address } = this.#entry;
        const from = address === undefined ? {} : { address };
        const claim = this.#env.CARD.getByName(card).claim({ ...attempt, ...from, attempt: this.attempt, pressed });
        const reply = await answered(claim);
        if ("no" in reply) {
          // An earlier try whose reply was lost may still come.
          if (tries > 1) this.#errands.later(unclaim(this.#env, card, this.attempt));
          if (reply.no === "unlisted") await this.#errands.provision();
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
        if (tries === CLAIM_TRIES_MAX || isBeyond(error)) {
          this.#errands.later(unclaim(this.#env, card, this.attempt));
          await this.#tell((ticket) => ticket.declined(card, "full"));
          await this.retry(this.#entry.avoid);
          return null;
        }
        await scheduler.wait(PAUSE_MS * tries * Math.random());
      }
    }
  }

  /**
   * Back to the line under a new attempt, with the place of its arrival; `avoid`: the cards tried. False: the pool is
   * sick, and allows no more retries for now.
   */
  async retry(avoid: string[]): Promise<boolean> {
    const attempt = newAttempt();
    let allowed = true;
    await this.#tell(async (ticket) => {
      allowed = await ticket.retry(attempt, avoid);
    });
    if (allowed) this.#entry = { ...this.#entry, attempt, avoid, again: true };
    return allowed;
  }

  /** Enters anew after a last word: what somebody else ran is not to be had. */
  again(): void {
    this.#drop();
    this.#entry = { ...this.#entry, attempt: newAttempt(), again: true };
  }

  /** The run is over; those who asked for the same are told how. */
  async finished(finish: Finish, observed: Observed | null): Promise<void> {
    this.#left = true;
    await this.#told;
    try {
      if (this.#ticket === null) throw new Error("the ticket is lost");
      await answered(this.#ticket.finished(finish, observed));
    } catch {
      // The Pool restarted: it may know of this run by its lease.
      const { attempt } = this;
      await answered(this.#env.POOL.getByName(this.#service).finished(attempt, finish, observed)).catch(
        (error: unknown) => console.warn(JSON.stringify({ event: "finish_lost", error: String(error) })),
      );
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
      await answered(say(ticket));
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

export function newAttempt(): string {
  return `att_${crypto.randomUUID()}`;
}

/** Objects that are overloaded, or so slow that they must be, are not asked again at once. */
function isBeyond(error: unknown): boolean {
  return error instanceof Silent || (error as { overloaded?: boolean }).overloaded === true;
}

function lostPool(): Refusal {
  return refuse("queue_full", { facts: { detail: "the line does not answer" }, retryAfterMs: LOST_POOL_RETRY_MS });
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
          detail: refusal.of === "address" ? " from this address, running ones included," : "",
        },
      });
    case "queue_full":
      return refuse(reason, {
        retryAfterMs,
        facts: { detail: `the waiting room is full (${refusal.length} of ${refusal.max})` },
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
