/** Text output in columns. Text from others is shown without control characters. */
import { styleText } from "node:util";
import stringWidth from "string-width";

const GAP = "  ";

/** Column headings, each with the function that gets the cell of a row. */
export type Columns<Row> = Record<string, (row: Row) => unknown>;

export function table<Row>(rows: Row[], columns: Columns<Row>): string {
  const headings = Object.keys(columns).map((heading) => styleText("bold", heading.toUpperCase()));
  return aligned([headings, ...rows.map((row) => Object.values(columns).map((of) => cell(of(row))))]);
}

/** One object, one field per line; nested fields are named by their path. */
export function fields(thing: object): string {
  return aligned(leaves(thing).map(([path, value]) => [styleText("bold", path), cell(value)]));
}

/** Every leaf value with its path. */
export function leaves(thing: object, above = ""): [string, unknown][] {
  return Object.entries(thing).flatMap(([name, value]): [string, unknown][] => {
    const path = above + name;
    return isThing(value) && Object.keys(value).length > 0 ? leaves(value, `${path}.`) : [[path, value]];
  });
}

/** Cells may contain styles and characters that are two columns wide. */
export function aligned(rows: string[][]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((text, at) => (widths[at] = Math.max(widths[at] ?? 0, stringWidth(text))));
  const padded = (text: string, at: number) => text + " ".repeat((widths[at] ?? 0) - stringWidth(text));
  return rows.map((row) => row.map(padded).join(GAP).trimEnd()).join("\n");
}

export function cell(value: unknown): string {
  if (value === null || value === undefined || value === "") return "-";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object" && Object.keys(value).length === 0) return "-";
  if (Array.isArray(value)) {
    const items = value.map((item) => (isThing(item) ? Object.values(item).map(cell).join(" ") : cell(item)));
    return items.join(value.some(isThing) ? "; " : ", ");
  }
  return clean(typeof value === "string" ? value : JSON.stringify(value));
}

/** Whether the value is an object and not an array. */
export function isThing(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An ISO time, shortened to seconds. */
export function shortTime(iso: string | null): string | null {
  return iso === null ? null : iso.replace("T", " ").replace(/\.\d+Z$/, "Z");
}

export function inSeconds(ms: number | null | undefined): string | null {
  return ms == null ? null : `${(ms / 1000).toFixed(1)} s`;
}

/** The text on one line, without control characters and bidirectional formatting characters. */
export function clean(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/[\p{Cc}\p{Bidi_Control}]/gu, "\u{fffd}");
}
