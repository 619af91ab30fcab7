/** The plots of a side-by-side run. Pure. */
import type { Case, Row } from "./cases.ts";
import { describe } from "./machine.ts";
import { added } from "./one-caller.ts";
import type { Results } from "./results.ts";
import { type BarPanel, draw, type LinePanel, niceAbove, type Series } from "./svg.ts";

const COLOURS: Record<string, string> = {
  direct: "#9aa1ac",
  "bare-worker": "#b59fd8",
  portico: "#1d63d8",
  haproxy: "#e0782f",
  "haproxy-abort": "#f3bb8d",
  nginx: "#2f9a5b",
  "nginx-hasty": "#a3d6b4",
};

const share = (value: number) => String(Number(value.toFixed(3))).replace(/^0\./, ".");
const percent = (value: number) => `${(value * 100).toFixed(value === 0 || value >= 0.1 ? 0 : 1)} %`;
const whole = (value: number) => value.toFixed(0);
const seconds = (value: number) => `${Number((value / 1000).toFixed(2))} s`;
const milliseconds = (value: number) => value.toFixed(value < 10 ? 1 : 0);

/** SVG by name. Cases that were not measured are omitted. */
export function plotsOf(results: Results): Record<string, string> {
  const { at, machine, lengths, cases } = results;
  const series: Series[] = results.contenders.map(({ name, title }) => ({
    name,
    title,
    colour: COLOURS[name] ?? "#000000",
  }));
  const subtitle = `6 cards x 2 slots, 300 ms +-30 %; ${lengths.windowMs / 1000} s windows; ${describe(machine)}; ${at.slice(0, 10)}`;
  const pick = (...groups: Case["group"][]) => cases.filter(({ group }) => groups.includes(group));
  const sheets: Record<string, { title: string; panels: (BarPanel | LinePanel)[] }> = {
    share: {
      title: "Share of the physical limit",
      panels: [bars(results, pick("closed", "open"), "share", share, 1)],
    },
    errors: {
      title: "Requests answered with an error",
      panels: [bars(results, pick("closed", "open", "sick"), "errorRate", percent, 1)],
    },
    latency: {
      title: "Time to the whole answer, of those that got one (nginx refuses the rest)",
      panels: latency(results, pick("closed")),
    },
    "hang-ups": {
      title: "30 % of callers hang up, and the cards work on",
      panels: [
        {
          ...bars(results, pick("hang-up"), "shareOfRest", share, 1),
          title: "Share of the limit less the ghosts' own time",
        },
        {
          ...bars(results, pick("hang-up"), "startedForNobody", whole),
          title: "Runs started for callers who had left",
        },
      ],
    },
    over: {
      title: "Over-admissions: starts beyond a card's two slots, as the cards counted",
      panels: [bars(results, cases, "over", whole)],
    },
    restart: { title: "kill -9 and a start at once, with 50 users: answers 200 a second", panels: restarts(results) },
    "one-caller": { title: "What one caller waits beyond the cards' own median, ms", panels: oneCaller(results) },
  };
  return Object.fromEntries(
    Object.entries(sheets)
      .filter(([, { panels }]) =>
        panels.some((panel) => (panel.kind === "bars" ? panel.groups : panel.lines).length > 0),
      )
      .map(([name, { title, panels }]) => [name, draw({ title, subtitle, series, panels })]),
  );
}

/** Interval of the labels below the time axis, in seconds. */
const LABEL_EVERY_S = 10;

function restarts({ rows }: Results): LinePanel[] {
  const killed = rows.flatMap(({ contender, recovery }) => (recovery === null ? [] : [{ contender, ...recovery }]));
  if (killed.length === 0) return [];
  const longest = Math.max(...killed.map(({ perSecond }) => perSecond.length));
  const xs = Array.from({ length: longest }, (_, i) => i + 1);
  const killedAt = Math.round((killed[0]?.killedMs ?? 0) / 1000);
  return [
    {
      kind: "lines",
      title: "",
      write: whole,
      xLabel: `seconds; the kill is at ${killedAt}`,
      xs,
      labelled: xs.filter((x) => x % LABEL_EVERY_S === 0),
      lines: killed.map(({ contender, perSecond }) => ({
        series: contender,
        values: xs.map((_, i) => perSecond[i] ?? null),
      })),
    },
  ];
}

type Figure = "share" | "shareOfRest" | "errorRate" | "over" | "startedForNobody";

function bars(
  { rows }: Results,
  cases: readonly Case[],
  figure: Figure,
  write: (value: number) => string,
  max?: number,
): BarPanel {
  const groups = cases.map(({ name, label }) => {
    const values = rows.filter((row) => row.case === name).map((row) => [row.contender, row[figure]] as const);
    return { label, values: Object.fromEntries(values) };
  });
  return { kind: "bars", title: "", write, groups, ...(max === undefined ? {} : { max }) };
}

function latency({ rows, contenders }: Results, cases: readonly Case[]): LinePanel[] {
  const crowds = cases.flatMap((one) => (one.kind === "crowd" ? [one] : []));
  const xs = crowds.map(({ users }) => users);
  const highest = Math.max(
    ...rows.filter((row) => crowds.some(({ name }) => name === row.case)).map(({ p99 }) => p99 ?? 0),
  );
  const line = (contender: string, figure: "p50" | "p95" | "p99") =>
    crowds.map(({ name }) => find(rows, contender, name)?.[figure] ?? null);
  return (["p50", "p95", "p99"] as const).map((figure) => ({
    kind: "lines",
    title: { p50: "median", p95: "95th percentile", p99: "99th percentile" }[figure],
    write: seconds,
    max: niceAbove(highest),
    xLabel: "users, closed loop",
    xs,
    lines: contenders
      .map(({ name }) => ({ series: name, values: line(name, figure) }))
      .filter(({ values }) => values.some((value) => value !== null)),
  }));
}

const find = (rows: readonly Row[], contender: string, name: string): Row | undefined =>
  rows.find((row) => row.contender === contender && row.case === name);

function oneCaller({ oneCaller: callers }: Results): BarPanel[] {
  const groups = (["p50", "p95", "p99"] as const).map((figure) => ({
    label: { p50: "median", p95: "95th percentile", p99: "99th percentile" }[figure],
    values: Object.fromEntries(
      callers.map((one) => [one.contender, Math.max(0, added(one, callers)?.[figure] ?? Number.NaN)]),
    ),
  }));
  const isComparable = callers.some(({ contender }) => contender === "direct");
  return isComparable ? [{ kind: "bars", title: "", write: milliseconds, groups }] : [];
}
