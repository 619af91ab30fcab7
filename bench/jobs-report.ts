/** The results of the jobs benchmark, and the cost of a million jobs. Pure. */
import { type CostRow, costTable } from "./costs.ts";
import type { Machine } from "./machine.ts";
import { align } from "./table.ts";

export interface JobsFigures {
  jobs: number;
  /** Runs that the cards counted, and the number of different jobs among them. */
  runs: number;
  ran: number;
  /** Starts that made a card run more than its slots. */
  over: number;
  takenPerSecond: number;
  /** Share of the slot time, from when all slots were busy to the last start. */
  slotsBusy: number;
  /** From a slot becoming free to the next run on its card, ms. */
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
