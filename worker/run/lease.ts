/** A lease on the holder's side: renewed while the run lasts, released when the origin's answer has ended. */
import { type Ending, LEASE_RENEW_MS, type Transport } from "../../durable-objects/card-protocol.ts";
import type { Env } from "../env.ts";
import { repeated } from "../results/repeated.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

/** Tries of a release to a Card that does not respond, and the first pause between them; the pause doubles. */
const RELEASE_TRIES_MAX = 5;
const RELEASE_PAUSE_MS = 200;
/** Timeout of one renewal call: both ways of renewing together end before the next renewal is due. */
const RENEWAL_MS_MAX = LEASE_RENEW_MS / 2;

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

/** A held slot, renewed until it is released. When a renewal is refused, the run must stop: `lost` is called. */
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
      // The next renewal is due before the lease expires.
      console.warn(JSON.stringify({ event: "renewal_missed", card, number, error: String(error) }));
    }
  }

  /** A restart of the Card breaks the RPC handle but not the lease, so the call falls back to the lease number. */
  async #askRenewal(card: string, number: number, attempt: string): Promise<{ renewed: boolean }> {
    try {
      return await withTimeout(this.#handle.renew(), RENEWAL_MS_MAX);
    } catch {
      return await withTimeout(this.#env.CARD.getByName(card).renew(number, attempt), RENEWAL_MS_MAX);
    }
  }

  /** Releases the lease. Only the first call counts. */
  async release(ending: Ending): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    clearInterval(this.#timer);
    const { card, number, attempt } = this.grant;
    try {
      await withTimeout(this.#handle.release(ending));
    } catch {
      // As with renewals: the lease outlives its handle.
      const byNumber = () => withTimeout(this.#env.CARD.getByName(card).release(number, attempt, ending));
      await untilHeard(byNumber, { event: "release_lost", card, number });
    }
    this.#handle[Symbol.dispose]();
  }
}

/** Releases whatever a claim may hold after all its replies were lost. */
export async function unclaim(env: Env, card: string, attempt: string): Promise<void> {
  await untilHeard(() => withTimeout(env.CARD.getByName(card).unclaim(attempt)), {
    event: "unclaim_lost",
    card,
    attempt,
  });
}

/** Repeats a call to a Card; logs when the Card never responds. */
async function untilHeard(call: () => Promise<unknown>, lost: object): Promise<void> {
  try {
    await repeated(call, RELEASE_TRIES_MAX, RELEASE_PAUSE_MS);
  } catch (error) {
    console.error(JSON.stringify({ ...lost, error: String(error) }));
  }
}
