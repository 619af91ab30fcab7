/** The results of a run at scale: whether time grew logarithmically, the tables, the plot. Pure. */
import { describe, type Machine } from "./machine.ts";
import type { DeskTimes, Size } from "./scale-desk.ts";
import { draw, type LinePanel, type Sheet } from "./svg.ts";
import { align } from "./table.ts";

export type Dimension = keyof Size;

/** The sizes of the dimensions that do not grow. */
export const DESK_BASE: Size = { waiting: 1_000, tenants: 10, cards: 100 };
export const DESK_GROWING: Record<Dimension, number[]> = {
  waiting: [10, 100, 1_000, 10_000],
  tenants: [1, 10, 100, 1_000],
  cards: [10, 100, 1_000, 5_000],
};
export const OBJECTS_BASE: Size = { waiting: 100, tenants: 10, cards: 10 };
export const OBJECTS_GROWING: Record<Dimension, number[]> = {
  waiting: [10, 100, 1_000, 10_000],
  tenants: [1, 10, 100],
  cards: [10, 100, 1_000],
};
/**
 * Allowance beyond the logarithm over the whole range, for cache misses of larger lines and other load on the machine.
 */
const MARGIN = 1.6;
/** Allowance over the last step alone. It is smaller: a linear part that makes up half the time by then exceeds it. */
const LAST_MARGIN = 1.3;

export interface ObjectTimes extends Size {
  grantsPerSecond: number | null;
  cycleUs: number | null;
  /** Why there are no figures. */
  failed: string | null;
}

/** What both kinds of times have in common. */
type Timed = Size & { cycleUs: number | null };

interface Growth {
  what: string;
  dimension: Dimension;
  /** Over the whole range, and from the second largest size to the largest, where a linear part shows first. */
  whole: Step;
  last: Step;
  /** Both are within the logarithmic limit, and every size was measured. */
  holds: boolean;
}

interface Step {
  /** Time at the larger size divided by time at the smaller. */
  grew: number;
  /** The limit: logarithmic growth times the margin. */
  allowed: number;
}

export interface Results {
  name: string;
  at: string;
  machine: Machine;
  desk: DeskTimes[];
  objects: ObjectTimes[];
  growth: Growth[];
}

const sizeCells = ({ waiting, tenants, cards }: Size) => [waiting, tenants, cards].map(String);
const us = (value: number) => value.toFixed(1);

/** All distinct sizes: the base with one dimension changed. */
export function sizes(base: Size, growing: Record<Dimension, number[]>): Size[] {
  const all = (Object.keys(growing) as Dimension[]).flatMap((one) => growing[one].map((n) => ({ ...base, [one]: n })));
  return all.filter((size, i) => all.findIndex((other) => sizeText(other) === sizeText(size)) === i);
}

export function sizeText({ waiting, tenants, cards }: Size): string {
  return `${waiting} waiting, ${tenants} tenants, ${cards} cards`;
}

/** The measurements in which this dimension grows, smallest first. */
function series(times: Timed[], base: Size, dimension: Dimension, values: number[]): Timed[] {
  const wanted = values.map((n) => sizeText({ ...base, [dimension]: n }));
  return wanted.flatMap((text) => times.filter((one) => sizeText(one) === text));
}

export function growthOf(what: string, times: Timed[], base: Size, growing: Record<Dimension, number[]>): Growth[] {
  return (Object.keys(growing) as Dimension[]).map((dimension) => {
    const line = series(times, base, dimension, growing[dimension]);
    const measured = line.flatMap(({ cycleUs, ...size }) => (cycleUs === null ? [] : [{ ...size, cycleUs }]));
    const [first, before, last] = [measured[0], measured.at(-2), measured.at(-1)];
    if (first === undefined || before === undefined || last === undefined) throw new Error(`${what}: nothing grew`);
    const step = (from: typeof first, margin: number): Step => ({
      grew: last.cycleUs / from.cycleUs,
      // log(2 + n), so that growth from a single tenant is defined.
      allowed: (margin * Math.log2(2 + last[dimension])) / Math.log2(2 + from[dimension]),
    });
    const [whole, end] = [step(first, MARGIN), step(before, LAST_MARGIN)];
    const holds = whole.grew <= whole.allowed && end.grew <= end.allowed && measured.length === line.length;
    return { what, dimension, whole, last: end, holds };
  });
}

const stepCells = ({ grew, allowed }: Step) => [`x ${grew.toFixed(2)}`, `x ${allowed.toFixed(2)}`];

export function tables(kept: Results): string {
  const deskRows = kept.desk.map((one) => [
    "decisions",
    ...sizeCells(one),
    us(one.enterUs),
    us(one.offerUs),
    us(one.claimUs),
    us(one.cycleUs),
    "-",
  ]);
  const objectRows = kept.objects.map((one) => [
    "objects",
    ...sizeCells(one),
    "-",
    "-",
    "-",
    one.cycleUs === null ? "-" : us(one.cycleUs),
    one.grantsPerSecond?.toFixed(0) ?? "-",
  ]);
  const head = ["", "waiting", "tenants", "cards", "enter us", "offer us", "claim us", "cycle us", "grants/s"];
  const growthRows = kept.growth.map(({ what, dimension, whole, last, holds }) => [
    `${what}, more ${dimension}`,
    ...stepCells(whole),
    ...stepCells(last),
    holds ? "yes" : "NO",
  ]);
  return [
    align([head, ...deskRows, ...objectRows]),
    align([["time per cycle", "grew", "allowed", "last step", "allowed", "as a logarithm"], ...growthRows]),
    ...kept.objects.flatMap((one) => (one.failed === null ? [] : [`objects, ${sizeText(one)}: ${one.failed}`])),
  ].join("\n\n");
}

export function plot(kept: Results): string {
  const names: Record<Dimension, string> = { waiting: "who wait", tenants: "tenants", cards: "cards" };
  const panels = (Object.keys(names) as Dimension[]).map((dimension): LinePanel => {
    const xs = DESK_GROWING[dimension];
    const at = (times: Timed[], base: Size, n: number) =>
      times.find((one) => sizeText(one) === sizeText({ ...base, [dimension]: n }))?.cycleUs ?? null;
    return {
      kind: "lines",
      title: `more ${names[dimension]}`,
      write: (value) => (value >= 1000 ? `${value / 1000} ms` : `${value} us`),
      xLabel: names[dimension],
      xs,
      log: true,
      lines: [
        { series: "objects", values: xs.map((n) => at(kept.objects, OBJECTS_BASE, n)) },
        { series: "decisions", values: xs.map((n) => at(kept.desk, DESK_BASE, n)) },
      ],
    };
  });
  const sheet: Sheet = {
    title: "Time per grant: enter, offer, claim, end",
    subtitle: `one dimension grows at a time; ${describe(kept.machine)}; ${kept.at.slice(0, 10)}`,
    series: [
      { name: "decisions", title: "the Pool's decisions alone", colour: "#1d63d8" },
      { name: "objects", title: "real Pool and Cards, in the runtime", colour: "#e0782f" },
    ],
    panels,
  };
  return draw(sheet);
}
