/** A place in line as its holder has it: an RPC target that lives as long as the holder does. */
import { RpcTarget } from "cloudflare:workers";
import type { ClaimNo, Entry, Finish, Observed, OfferReply, TicketRights, WaitingOn } from "./protocol.ts";

/** Longest that one `offer` call waits: a holder that lost its Pool notices, and learns its position. */
const OFFER_SLICE_MS = 20_000;

export interface TicketState {
  entry: Entry;
  phase: "waiting" | "offered" | "missed" | "running" | "over";
  /** The card offered or claimed. */
  card: string | null;
  /** What the next `offer` call answers; null while there is nothing to say. */
  reply: OfferReply | null;
  /** Wakes the `offer` call that waits. */
  wake: (() => void) | null;
  enteredAt: number;
  /** Stubs of it that are out: a repeated `enter` makes another. */
  holders: number;
  timer: ReturnType<typeof setTimeout> | null;
}

interface PoolSide {
  waitingOn(ticket: TicketState): { on: WaitingOn; position: number };
  asked(ticket: TicketState): void;
  claimed(ticket: TicketState, number: number): void;
  declined(ticket: TicketState, card: string, no: ClaimNo["no"]): void;
  retry(ticket: TicketState, attempt: string, avoid: string[]): void;
  finished(ticket: TicketState, finish: Finish, observed: Observed | null): void;
  left(ticket: TicketState): void;
}

export class Ticket extends RpcTarget implements TicketRights {
  readonly #state: TicketState;
  readonly #pool: PoolSide;

  constructor(state: TicketState, pool: PoolSide) {
    super();
    this.#state = state;
    this.#pool = pool;
    state.holders++;
  }

  async offer(): Promise<OfferReply> {
    const state = this.#state;
    this.#pool.asked(state);
    if (state.reply === null) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, OFFER_SLICE_MS);
        const before = state.wake;
        state.wake = () => {
          clearTimeout(timer);
          before?.();
          resolve();
        };
      });
    }
    return state.reply ?? { kind: "waiting", ...this.#pool.waitingOn(state) };
  }

  async claimed(number: number): Promise<void> {
    this.#pool.claimed(this.#state, number);
  }

  async declined(card: string, no: ClaimNo["no"]): Promise<void> {
    this.#pool.declined(this.#state, card, no);
  }

  async retry(attempt: string, avoid: string[]): Promise<void> {
    this.#pool.retry(this.#state, attempt, avoid);
  }

  async finished(finish: Finish, observed: Observed | null): Promise<void> {
    this.#pool.finished(this.#state, finish, observed);
  }

  async leave(): Promise<void> {
    this.#pool.left(this.#state);
  }

  [Symbol.dispose](): void {
    if (--this.#state.holders === 0) this.#pool.left(this.#state);
  }
}
