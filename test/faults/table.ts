/**
 * The table of a run of the fault suite: printed at its end, and written to dist/faults.json and dist/faults.md. A run
 * of other tests has none.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Reporter, TestCase, TestModule } from "vitest/node";
import { ROOT } from "../../local/root.ts";
import type { Row } from "./case.ts";

interface Line extends Row {
  held: boolean;
  seconds: number;
  /** Error messages of the test. */
  why: string[];
}

export class FaultTable implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const lines = tests.map(lineOf).filter((line) => line !== null);
    if (lines.length === 0) return;
    lines.sort((a, b) => a.number.localeCompare(b.number, "en", { numeric: true }));
    const folder = join(ROOT, "dist");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "faults.json"), `${JSON.stringify(lines, null, 2)}\n`);
    writeFileSync(join(folder, "faults.md"), markdown(lines));
    process.stdout.write(`\n${lines.map(plain).join("\n")}\n`);
    const held = lines.filter((line) => line.held).length;
    const short = lines.reduce((sum, line) => sum + line.short, 0);
    process.stdout.write(`\n${held} of ${lines.length} cases held; `);
    process.stdout.write(`${short} figures of this machine's speed fell short of the expected (dist/faults.md)\n`);
  }
}

function lineOf(test: TestCase): Line | null {
  const row = test.meta().fault;
  const result = test.result();
  if (row === undefined || result.state === "skipped") return null;
  const why = (result.errors ?? []).map(({ message }) => message.split("\n")[0] ?? "");
  const seconds = Math.round((test.diagnostic()?.duration ?? 0) / 1000);
  return { ...row, held: result.state === "passed", seconds, why };
}

function plain({ number, injection, expected, seen, held, seconds, missed, why }: Line): string {
  const lines = [
    `${held ? "held    " : "NOT HELD"} ${number.padEnd(4)} ${injection} (${seconds} s)`,
    `              expected  ${expected}`,
    `              seen      ${seen.join("; ")}`,
  ];
  if (!held) lines.push(`              missed    ${missed.length > 0 ? missed.join("; ") : why.join("; ")}`);
  return lines.join("\n");
}

const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function markdown(lines: Line[]): string {
  const rows = lines.map(({ number, injection, expected, seen, held, missed, why }) => {
    const not = missed.length > 0 ? missed : why;
    return `| ${[number, injection, expected, seen.join("; "), held ? "yes" : `no: ${not.join("; ")}`].map(cell).join(" | ")} |`;
  });
  return ["| # | injection | expected | seen | held |", "|---|---|---|---|---|", ...rows, ""].join("\n");
}
