/** The desk's state of a ticket. */
import type { Entry, OfferReply } from "./pool-protocol.ts";

export interface TicketState {
  entry: Entry;
  phase: "waiting" | "offered" | "missed" | "running" | "over";
  /** The card offered or claimed. */
  card: string | null;
  /** The reply to the next `offer` call; null while there is none. */
  reply: OfferReply | null;
  /** Wake the pending `offer` calls. */
  readonly waiters: Set<() => void>;
  /** When it began to wait; `queue.timeoutMs` counts from here. A retry begins anew: time on a card is no waiting. */
  waitsSince: number;
  /** Number of live stubs; a repeated `enter` creates another. */
  holders: number;
  /** Cancels the pending timeout. */
  stop: (() => void) | null;
}

/** Sets the holder's next reply and wakes its calls. */
export function setReply(ticket: TicketState, reply: OfferReply): void {
  ticket.reply = reply;
  for (const wake of ticket.waiters) wake();
  ticket.waiters.clear();
}

/** Cancels the pending timeout. */
export function cancelTimeout(ticket: TicketState): void {
  ticket.stop?.();
  ticket.stop = null;
}
