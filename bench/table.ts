/** The figures of a run as text for a terminal. Pure. */
import type { Case, Row } from "./cases.ts";
import { mean } from "./figures.ts";
import { OLD_FIGURES, type OldLoadRow } from "./old-load.ts";
import { added, type OneCaller } from "./one-caller.ts";
import type { Results } from "./results.ts";

type Cells = readonly string[];

const HEAD: Cells = [
  "",
  "ok/s",
  "of limit",
  "less ghosts",
  "slots busy",
  "errors",
  "p50 ms",
  "p95",
  "p99",
  "p99/p50",
  "over",
  "card max",
  "Jain",
  "for nobody",
  "failed runs",
];

const digits = (value: number | null, count: number) => (value === null ? "-" : value.toFixed(count));
const percent = (value: number) => `${digits(value * 100, 1)} %`;
const seconds = (ms: number | null) => digits(ms === null ? null : ms / 1000, 1);

export function tableOf({ cases, contenders, rows, oneCaller, oldLoad, leftOut }: Results): string {
  const titles = new Map(contenders.map(({ name, title }) => [name, title]));
  const parts = cases
    .map((one) => (one.group === "restart" ? restartTable(one, rows, titles) : caseTable(one, rows, titles)))
    .filter((part) => part !== "");
  if (oneCaller.length > 0) parts.push(oneCallerTable(oneCaller, titles));
  if (oldLoad.length > 0) parts.push(oldLoadTable(oldLoad));
  for (const { title, why } of leftOut) parts.push(`${title}: ${why}`);
  return parts.join("\n\n");
}

function caseTable({ name, title }: Case, rows: readonly Row[], titles: ReadonlyMap<string, string>): string {
  const lines = rows.filter((row) => row.case === name).map((row) => cellsOf(row, titles.get(row.contender) ?? ""));
  return lines.length === 0 ? "" : align([[title, ...HEAD.slice(1)], ...lines]);
}

function cellsOf(row: Row, title: string): Cells {
  return [
    title,
    digits(row.okPerSecond, 1),
    digits(row.share, 3),
    digits(row.shareOfRest, 3),
    digits(row.busy, 3),
    percent(row.errorRate),
    digits(row.p50, 0),
    digits(row.p95, 0),
    digits(row.p99, 0),
    digits(row.spread, 2),
    String(row.over),
    String(row.highestOnOne),
    digits(row.jain, 3),
    String(row.startedForNobody),
    String(row.failedRuns),
  ];
}

function restartTable({ name, title }: Case, rows: readonly Row[], titles: ReadonlyMap<string, string>): string {
  const head = ["over", "card max", "errors", "ok/s before", "up s", "first ok s", "back s", "ok/s after, 5 s each"];
  const lines = rows.flatMap(({ case: of, contender, over, highestOnOne, recovery }) => {
    if (of !== name || recovery === null) return [];
    const { errors, beforePerSecond, upMs, firstMs, backMs, killedMs, perSecond } = recovery;
    const after = perSecond.slice(Math.ceil(killedMs / 1000));
    const fives = Array.from({ length: Math.ceil(after.length / 5) }, (_, i) => mean(after.slice(i * 5, i * 5 + 5)));
    const times = [upMs, firstMs, backMs].map(seconds);
    const counts = [over, highestOnOne, errors].map(String);
    const cells = [...counts, digits(beforePerSecond, 1), ...times, fives.map((five) => five.toFixed(0)).join(" ")];
    return [[titles.get(contender) ?? "", ...cells]];
  });
  return lines.length === 0 ? "" : align([[title, ...head], ...lines]);
}

function oldLoadTable(rows: readonly OldLoadRow[]): string {
  const head = ["the older stack's load", "users", "think s", "ok/s", "of limit", "mean s", "errors", "card max"];
  const told = OLD_FIGURES.map(({ what, perSecond, meanMs, errorRate }) => [
    what,
    "50-200",
    "-",
    digits(perSecond, 1),
    "-",
    seconds(meanMs),
    percent(errorRate),
    "-",
  ]);
  const now = rows.map(({ what, users, thinkMs, perSecond, share, meanMs, errorRate, highestOnOne }) => [
    what,
    String(users),
    String(thinkMs / 1000),
    digits(perSecond, 1),
    digits(share, 2),
    seconds(meanMs),
    percent(errorRate),
    String(highestOnOne),
  ]);
  return align([head, ...told, ...now]);
}

function oneCallerTable(callers: readonly OneCaller[], titles: ReadonlyMap<string, string>): string {
  const head = ["one caller, ms", "p50", "p95", "p99", "added p50", "p95", "p99"];
  const lines = callers.map((one) => [
    titles.get(one.contender) ?? "",
    ...[one.p50, one.p95, one.p99].map((ms) => digits(ms, 1)),
    ...(["p50", "p95", "p99"] as const).map((figure) => digits(added(one, callers)?.[figure] ?? null, 1)),
  ]);
  const stages = callers.flatMap(({ contender, stages: parts }) =>
    Object.entries(parts).length === 0
      ? []
      : [
          `${titles.get(contender)} spends (mean ms): ${Object.entries(parts)
            .map(([name, ms]) => `${name} ${ms.toFixed(1)}`)
            .join(", ")}`,
        ],
  );
  return [align([head, ...lines]), ...stages].join("\n");
}

/** The first column is left-aligned, the others right-aligned. */
export function align(rows: readonly Cells[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const texts = rows.map((cells) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  "),
  );
  const [head = "", ...rest] = texts;
  return [head, "-".repeat(head.length), ...rest].join("\n");
}
