/** Why a request waits, in the words that jobs, metrics and pages use. Pure. */
import type { Cards } from "./choose-card.ts";
import type { Entry, PoolConfig, WaitingOn } from "./pool-protocol.ts";

export interface Waiting {
  /** Null: a slot is free. It is about to start, or it follows the run of an identical request. */
  on: WaitingOn | null;
  /** 1 is next. */
  position: number;
}

export function reasonToWait(
  config: PoolConfig | null,
  cards: Cards,
  { tenant, concurrent, avoid }: Pick<Entry, "tenant" | "concurrent" | "avoid">,
  now: number,
): WaitingOn | null {
  if (config?.paused) return "paused";
  if (cards.health(now) !== "healthy") return "no_healthy_card";
  if (cards.holding(tenant) >= concurrent) return "tenant_cap";
  return cards.best(avoid, now) === null ? "slots_busy" : null;
}
