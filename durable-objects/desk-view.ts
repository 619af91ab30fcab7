/** Read-only views of a Pool's tickets. */
import type { Desk } from "./desk.ts";
import type { PoolStatus, Presence } from "./pool-protocol.ts";

/** Counts waiting tickets by what they wait for. Tickets for which a slot is free are left out. */
export function waitingFor(desk: Desk): PoolStatus["waitingFor"] {
  const counts: PoolStatus["waitingFor"] = {};
  for (const ticket of desk.tickets) {
    if (ticket.phase !== "waiting") continue;
    const reason = desk.reasonOf(ticket);
    if (reason === null) continue;
    counts[reason] = (counts[reason] ?? 0) + 1;
  }
  return counts;
}

/** Which of these requests are queued or running here. */
export function present(desk: Desk, requests: string[]): Presence["requests"] {
  const found: Presence["requests"] = {};
  const running = { state: "running", on: null, position: null } as const;
  const unknown = new Set<string>();
  for (const request of requests) {
    const ticket = desk.ticketOf(request);
    if (ticket === undefined) unknown.add(request);
    else found[request] = ticket.phase === "running" ? running : { state: "queued", ...desk.waitingOn(ticket) };
  }
  // Runs whose ticket was lost in a restart are known only from the cards' reports.
  if (unknown.size === 0) return found;
  for (const { held } of desk.cards.reports())
    for (const { request, state } of held) if (state === "leased" && unknown.has(request)) found[request] = running;
  return found;
}
