/** Why a request waits, in the words that jobs, metrics and pages use. Pure. */
import type { Cards } from "./choose-card.ts";
import type { Entry, PoolConfig, WaitingOn } from "./pool-protocol.ts";

export interface Waiting {
  on: WaitingOn;
  /** 1 is next. */
  position: number;
}

export function reasonToWait(
  config: PoolConfig | null,
  cards: Cards,
  { tenant, concurrent }: Pick<Entry, "tenant" | "concurrent">,
  now: number,
): WaitingOn {
  if (config?.paused) return "paused";
  if (cards.health(now) !== "healthy") return "no_healthy_card";
  return cards.holding(tenant) >= concurrent ? "tenant_cap" : "slots_busy";
}
