/** A place in line as the desk has it. */
import type { Entry, OfferReply } from "./pool-protocol.ts";

export interface TicketState {
  entry: Entry;
  phase: "waiting" | "offered" | "missed" | "running" | "over";
  /** The card offered or claimed. */
  card: string | null;
  /** What the next `offer` call answers; null while there is nothing to say. */
  reply: OfferReply | null;
  /** Wake the `offer` calls that wait. */
  readonly waiters: Set<() => void>;
  enteredAt: number;
  /** Stubs of it that are out: a repeated `enter` makes another. */
  holders: number;
  /** Calls off what time would do to it. */
  stop: (() => void) | null;
}

/** What its holder hears next. */
export function say(ticket: TicketState, reply: OfferReply): void {
  ticket.reply = reply;
  for (const wake of ticket.waiters) wake();
  ticket.waiters.clear();
}

/** Time does nothing to it any more. */
export function calm(ticket: TicketState): void {
  ticket.stop?.();
  ticket.stop = null;
}
