/** A model of a Pool's counts for the tests of choose-card.ts. It computes everything anew on each call. */
import type { CardReport, BreakerState, Held } from "../../durable-objects/card-protocol.ts";

export const SERVICE = "portrait";

interface Known {
  weight: number;
  report: CardReport | null;
  /** It has refused a claim since that report. */
  refused: boolean;
  pending: Map<string, { tenant: string; number: number | null }>;
  used: number;
}

export class CardsModel {
  now = 1_000_000;
  readonly cards = new Map<string, Known>();
  #used = 0;

  configure(cards: { card: string; weight: number }[]): void {
    const before = new Map(this.cards);
    this.cards.clear();
    for (const { card, weight } of cards) {
      const known = before.get(card) ?? { report: null, refused: false, pending: new Map(), used: 0 };
      this.cards.set(card, { ...known, weight });
    }
  }

  report(report: CardReport): boolean {
    const known = this.cards.get(report.card);
    if (known === undefined) return false;
    const { incarnation, seq } = known.report ?? { incarnation: 0, seq: 0 };
    if (report.incarnation < incarnation || (report.incarnation === incarnation && report.seq <= seq)) return false;
    const shown = new Set(report.held.map((held) => held.attempt));
    const left = [...known.pending].filter(
      ([name, { number }]) => !shown.has(name) && (number ?? Infinity) > report.lastNumber,
    );
    Object.assign(known, { report, refused: false, pending: new Map(left) });
    return true;
  }

  offered(card: string, attempt: string, tenant: string): void {
    const known = this.cards.get(card);
    known?.pending.set(attempt, { tenant, number: null });
    this.#used += known === undefined ? 0 : 1;
    if (known !== undefined) known.used = this.#used;
  }

  claimed(card: string, attempt: string, number: number): void {
    const known = this.cards.get(card);
    const pending = known?.pending.get(attempt);
    if (known === undefined || pending === undefined) return;
    if (number <= (known.report?.lastNumber ?? 0)) known.pending.delete(attempt);
    else pending.number = number;
  }

  withdrawn(card: string, attempt: string): void {
    this.cards.get(card)?.pending.delete(attempt);
  }

  refused(card: string): void {
    const known = this.cards.get(card);
    if (known !== undefined) known.refused = true;
  }

  /** The state of the gate at the current time. */
  gate(card: string): BreakerState["state"] {
    const gate = this.cards.get(card)?.report?.gates[SERVICE];
    if (gate === undefined) return "open";
    return gate.state === "open" && gate.untilAt <= this.now ? "half_open" : gate.state;
  }

  takesWork(card: string): boolean {
    return this.cards.get(card)?.report?.state === "active" && ["closed", "half_open"].includes(this.gate(card));
  }

  /** Slots that may still be offered. */
  free(card: string): number {
    const known = this.cards.get(card);
    if (known?.report == null || known.refused || !this.takesWork(card)) return 0;
    const free = known.report.slots - known.report.held.length - known.pending.size;
    if (this.gate(card) !== "closed") return Math.min(free, 1 - known.pending.size);
    const running = known.report.held.filter((held) => held.service === SERVICE && held.state === "leased").length;
    const most = known.report.gates[SERVICE]?.most ?? known.report.slots;
    return Math.min(free, most - running - known.pending.size);
  }

  best(tried: string[]): string | null {
    const all = [...this.cards.keys()];
    const others = all.filter((card) => !tried.includes(card) && this.takesWork(card));
    const free = all.filter((card) => this.free(card) > 0 && (others.length === 0 || !tried.includes(card)));
    const rank = (card: string): [number, number, string] => {
      const known = this.cards.get(card);
      if (known?.report == null) return [Infinity, 0, card];
      return [(known.report.held.length + known.pending.size) / (known.report.slots * known.weight), known.used, card];
    };
    const ranked = free.map(rank).toSorted((a, b) => a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : 1));
    return ranked[0]?.[2] ?? null;
  }

  holding(tenant: string): number {
    let count = 0;
    for (const { report, pending } of this.cards.values()) {
      const held = (report?.held ?? []).filter((h: Held) => h.service === SERVICE && h.tenant === tenant);
      count += held.length + [...pending.values()].filter((p) => p.tenant === tenant).length;
    }
    return count;
  }

  health(): "healthy" | "unknown" | "none" {
    const all = [...this.cards.keys()];
    if (all.some((card) => this.takesWork(card))) return "healthy";
    return all.some((card) => this.cards.get(card)?.report === null) ? "unknown" : "none";
  }

  capacity(): number {
    return [...this.cards].reduce(
      (sum, [card, { report }]) => sum + (this.takesWork(card) ? (report?.slots ?? 0) : 0),
      0,
    );
  }

  trialAt(): number | null {
    const gates = [...this.cards.values()].map(({ report }) => report?.gates[SERVICE]);
    const times = gates.filter((gate) => gate?.state === "open").map((gate) => gate?.untilAt ?? 0);
    const coming = times.filter((at) => at > this.now);
    return coming.length === 0 ? null : Math.min(...coming);
  }
}
