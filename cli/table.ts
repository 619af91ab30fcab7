/** How answers look to people: columns of text. What others wrote is shown without anything that moves a terminal. */
import { styleText } from "node:util";
import stringWidth from "string-width";

const GAP = "  ";

/** A column's heading, and what of a row stands under it. */
export type Columns<Row> = Record<string, (row: Row) => unknown>;

export function table<Row>(rows: Row[], columns: Columns<Row>): string {
  const headings = Object.keys(columns).map((heading) => styleText("bold", heading.toUpperCase()));
  return aligned([headings, ...rows.map((row) => Object.values(columns).map((of) => cell(of(row))))]);
}

/** One thing, a field a line; what lies inside another is named by its path. */
export function fields(thing: object): string {
  return aligned(leaves(thing).map(([path, value]) => [styleText("bold", path), cell(value)]));
}

/** Every value that holds no more names, by its path. */
export function leaves(thing: object, above = ""): [string, unknown][] {
  return Object.entries(thing).flatMap(([name, value]): [string, unknown][] => {
    const path = above + name;
    return isThing(value) && Object.keys(value).length > 0 ? leaves(value, `${path}.`) : [[path, value]];
  });
}

/** Cells may be styled, and hold characters that are two columns wide. */
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

/** What has names in it. */
export function isThing(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A time of the API to the second. */
export function shortTime(iso: string | null): string | null {
  return iso === null ? null : iso.replace("T", " ").replace(/\.\d+Z$/, "Z");
}

export function inSeconds(ms: number | null | undefined): string | null {
  return ms == null ? null : `${(ms / 1000).toFixed(1)} s`;
}

/** On one line, without control characters and without those that turn the direction of what stands around them. */
export function clean(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/[\p{Cc}\p{Bidi_Control}]/gu, "\u{fffd}");
}
