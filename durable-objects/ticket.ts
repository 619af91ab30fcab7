/** The RPC stub of a ticket; the ticket lives as long as its holder keeps a stub. */
import { RpcTarget } from "cloudflare:workers";
import type { ClaimNo } from "./card-protocol.ts";
import type { Finish, Observed, OfferReply, TicketRpc } from "./pool-protocol.ts";
import type { TicketState } from "./ticket-state.ts";
import type { Waiting } from "./waiting-on.ts";

/** Longest wait of one `offer` call, so that a holder learns its position and notices a lost Pool. */
const OFFER_SLICE_MS = 20_000;

/** What a ticket's holder may do with it; nothing else is reachable over RPC. */
interface TicketDesk {
  after(ms: number, then: () => void): () => void;
  waitingOn(ticket: TicketState): Waiting;
  asked(ticket: TicketState): void;
  claimed(ticket: TicketState, number: number): void;
  declined(ticket: TicketState, card: string, no: ClaimNo["no"]): void;
  retry(ticket: TicketState, attempt: string, avoid: string[]): boolean;
  finished(ticket: TicketState, finish: Finish, observed: Observed | null): void;
  left(ticket: TicketState): void;
}

export class Ticket extends RpcTarget implements TicketRpc {
  readonly #state: TicketState;
  readonly #desk: TicketDesk;

  constructor(state: TicketState, desk: TicketDesk) {
    super();
    this.#state = state;
    this.#desk = desk;
    state.holders++;
  }

  async offer(): Promise<OfferReply> {
    const state = this.#state;
    this.#desk.asked(state);
    if (state.reply === null) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const stop = this.#desk.after(OFFER_SLICE_MS, resolve);
      state.waiters.add(resolve);
      await promise;
      state.waiters.delete(resolve);
      stop();
    }
    return state.reply ?? { kind: "waiting", ...this.#desk.waitingOn(state) };
  }

  async claimed(number: number): Promise<void> {
    this.#desk.claimed(this.#state, number);
  }

  async declined(card: string, no: ClaimNo["no"]): Promise<void> {
    this.#desk.declined(this.#state, card, no);
  }

  async retry(attempt: string, avoid: string[]): Promise<boolean> {
    return this.#desk.retry(this.#state, attempt, avoid);
  }

  async finished(finish: Finish, observed: Observed | null): Promise<void> {
    this.#desk.finished(this.#state, finish, observed);
  }

  async leave(): Promise<void> {
    this.#desk.left(this.#state);
  }

  [Symbol.dispose](): void {
    if (--this.#state.holders === 0) this.#desk.left(this.#state);
  }
}
