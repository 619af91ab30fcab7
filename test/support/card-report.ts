import type { CardReport } from "../../durable-objects/card-protocol.ts";

/** The report of a card that takes work and holds nothing. */
export function cardReport(card: string, more: Partial<CardReport> = {}): CardReport {
  return {
    card,
    incarnation: 1,
    seq: 1,
    version: 1,
    slots: 2,
    state: "active",
    lastNumber: 0,
    held: [],
    gates: {},
    ...more,
  };
}
