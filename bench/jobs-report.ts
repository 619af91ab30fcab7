/** What many jobs came to, and what a million of them costs. Pure. */
import { type CostRow, costTable } from "./costs.ts";
import type { Machine } from "./machine.ts";
import { align } from "./table.ts";

export interface JobsFigures {
  jobs: number;
  /** Runs that the cards have seen, and how many jobs they were of. */
  runs: number;
  ran: number;
  /** Starts that made a card run more than its slots. */
  over: number;
  takenPerSecond: number;
  /** Of the slots' time from when all were busy to the last start. */
  slotsBusy: number;
  /** From a card's slot that is free to its next run, ms. */
  gapP50: number;
  gapP99: number;
  /** Runs of each tenant in the first half. */
  shares: number[];
}

export interface Results {
  name: string;
  at: string;
  machine: Machine;
  runMs: number;
  figures: JobsFigures;
  costs: CostRow[];
}

export function table({ runMs, figures, costs }: Results): string {
  const { jobs, runs, ran, over, takenPerSecond, slotsBusy, gapP50, gapP99, shares } = figures;
  return [
    align([
      [
        `jobs of ${runMs} ms`,
        "runs",
        "jobs run",
        "over",
        "taken/s",
        "slots busy",
        "free to next ms p50",
        "p99",
        "shares",
      ],
      [
        String(jobs),
        String(runs),
        String(ran),
        String(over),
        takenPerSecond.toFixed(0),
        slotsBusy.toFixed(3),
        gapP50.toFixed(0),
        gapP99.toFixed(0),
        shares.join(" "),
      ],
    ]),
    costTable("job", costs),
  ].join("\n\n");
}
