/** Generates bench/results/README.md from the kept full runs, with their plots. */
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { table as authTable, type Results as AuthResults } from "./auth-report.ts";
import { table as hitsTable, type Results as HitsResults } from "./hits-report.ts";
import { table as jobsTable, type Results as JobsResults } from "./jobs-report.ts";
import { describe, type Machine } from "./machine.ts";
import { load, RESULTS, type Results } from "./results.ts";
import { tables, type Results as ScaleResults } from "./scale-report.ts";
import { tableOf } from "./table.ts";

/** The names under which full runs are kept. */
const SIDE_BY_SIDE = "side-by-side";
const SCALE = "scale";
const AUTH = "auth";
const HITS = "hits";
const JOBS = "jobs";

interface Kept {
  sideBySide: Results | null;
  scale: ScaleResults | null;
  auth: AuthResults | null;
  hits: HitsResults | null;
  jobs: JobsResults | null;
  /** The files in the results folder. */
  files: readonly string[];
}

/** Writes the file from the results that exist. Returns its path. */
export async function tell(): Promise<string> {
  const files = await readdir(RESULTS);
  const has = (name: string) => files.includes(`${name}.json`);
  const kept: Kept = {
    sideBySide: has(SIDE_BY_SIDE) ? await load<Results>(SIDE_BY_SIDE) : null,
    scale: has(SCALE) ? await load<ScaleResults>(SCALE) : null,
    auth: has(AUTH) ? await load<AuthResults>(AUTH) : null,
    hits: has(HITS) ? await load<HitsResults>(HITS) : null,
    jobs: has(JOBS) ? await load<JobsResults>(JOBS) : null,
    files,
  };
  await writeFile(join(RESULTS, "README.md"), reportOf(kept));
  return "bench/results/README.md";
}

export function reportOf({ sideBySide, scale, auth, hits, jobs, files }: Kept): string {
  const plots = (name: string) => files.filter((file) => file.startsWith(`${name}-`) && file.endsWith(".svg"));
  const lines = [
    "# Results",
    "Written by `npm run bench`, `npm run bench:scale`, `npm run bench:auth`, `npm run bench:hits` and `npm run bench:jobs`; what the figures mean stands in [the benchmarks' own page](../README.md).",
    "## Side by side",
    ...(sideBySide === null
      ? ["No whole run is kept: `npm run bench` on a machine that does nothing else writes it here."]
      : section(sideBySide, tableOf(sideBySide), plots(SIDE_BY_SIDE))),
    "## At scale",
    ...(scale === null
      ? ["No whole run is kept: `npm run bench:scale` writes it here."]
      : section(scale, tables(scale), plots(SCALE))),
    "## Keys and limits",
    ...(auth === null
      ? ["No whole run is kept: `npm run bench:auth` writes it here."]
      : section(auth, authTable(auth), plots(AUTH))),
    "## Hits",
    ...(hits === null
      ? ["No whole run is kept: `npm run bench:hits` writes it here."]
      : section(hits, hitsTable(hits), plots(HITS))),
    "## Jobs",
    ...(jobs === null
      ? ["No whole run is kept: `npm run bench:jobs` writes it here."]
      : section(jobs, jobsTable(jobs), plots(JOBS))),
  ];
  return `${lines.join("\n\n")}\n`;
}

function section(
  { name, at, machine }: { name: string; at: string; machine: Machine },
  tablesText: string,
  plots: readonly string[],
): string[] {
  const versions = Object.entries(machine.versions).map(([program, version]) => `${program} ${version}`);
  const pictures = plots.toSorted().map((file) => `![${file.slice(name.length + 1, -".svg".length)}](${file})`);
  return [
    `${at.slice(0, 10)}; ${describe(machine)}; ${versions.join(", ")}. Every figure: [${name}.json](${name}.json).`,
    ...(pictures.length === 0 ? [] : [pictures.join("\n")]),
    `\`\`\`text\n${tablesText}\n\`\`\``,
  ];
}
