/**
 * Plots as SVG text: panels of grouped bars or lines, side by side on a sheet with a title and one legend. White
 * background, no scripts, no embedded fonts. Pure.
 */
export interface Series {
  name: string;
  title: string;
  colour: string;
}

interface Panel {
  title: string;
  /** Formats a value for its mark and for the axis. */
  write: (value: number) => string;
  /** Upper end of the axis; by default derived from the highest value. */
  max?: number;
}

export interface BarPanel extends Panel {
  kind: "bars";
  groups: { label: string; values: Record<string, number | null> }[];
}

export interface LinePanel extends Panel {
  kind: "lines";
  xLabel: string;
  xs: number[];
  /** The x values that are labeled below the axis; by default all. */
  labelled?: number[];
  /** Both axes are logarithmic. */
  log?: boolean;
  lines: { series: string; values: (number | null)[] }[];
}

export interface Sheet {
  title: string;
  subtitle: string;
  series: Series[];
  panels: (BarPanel | LinePanel)[];
}

const WIDTH = 920;
const EDGE = 24;
const HEAD = 88;
const PANEL_HEIGHT = 266;
const AXIS_WIDTH = 52;
const AXIS_HEIGHT = 56;
const PANEL_HEAD = 30;
const TICKS = 4;
const INK = "#1f2430";
const FAINT = "#6b7280";
const GRID = "#e5e7eb";
/** The widest bar, and the narrowest that shows its value. */
const BAR_MAX = 44;
const LABELLED_MIN = 15;
const LOW_DECADE = -9;

interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

const escape = (words: string) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const round = (value: number) => Math.round(value * 10) / 10;

function text(
  x: number,
  y: number,
  content: string,
  style: { size?: number; fill?: string; anchor?: string; bold?: boolean } = {},
): string {
  const { size = 12, fill = INK, anchor = "start", bold = false } = style;
  const weight = bold ? ' font-weight="600"' : "";
  return `<text x="${round(x)}" y="${round(y)}" font-size="${size}" fill="${fill}" text-anchor="${anchor}"${weight}>${escape(content)}</text>`;
}

const line = (x1: number, y1: number, x2: number, y2: number, stroke: string) =>
  `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${stroke}"/>`;

export function draw({ title, subtitle, series, panels }: Sheet): string {
  const height = HEAD + PANEL_HEIGHT + EDGE;
  const width = (WIDTH - EDGE) / panels.length;
  const shown = series.filter(({ name }) => panels.some((panel) => uses(panel, name)));
  const body = panels.map((panel, i) => {
    const box = { x: EDGE + i * width, y: HEAD, width: width - EDGE, height: PANEL_HEIGHT };
    return panel.kind === "bars" ? bars(panel, box, shown) : lines(panel, box, shown);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" role="img" aria-label="${escape(title)}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(EDGE, 30, title, { size: 18, bold: true }),
    text(EDGE, 50, subtitle, { fill: FAINT }),
    ...legend(shown),
    ...body.flat(),
    "</svg>\n",
  ].join("\n");
}

function uses(panel: BarPanel | LinePanel, name: string): boolean {
  if (panel.kind === "lines") return panel.lines.some(({ series }) => series === name);
  return panel.groups.some(({ values }) => typeof values[name] === "number");
}

function legend(series: Series[]): string[] {
  let x = EDGE;
  return series.flatMap(({ title, colour }) => {
    const at = x;
    // Approximately 6.5 px per letter at this size; text cannot be measured here.
    x += 34 + title.length * 6.5;
    return [`<rect x="${at}" y="62" width="12" height="12" rx="2" fill="${colour}"/>`, text(at + 18, 72, title)];
  });
}

/** Draws the panel's title, grid and vertical axis. Returns also the function that maps a value to y. */
function frame(panel: Panel, box: Box, scale: Scale): { parts: string[]; plot: Box; y: (value: number) => number } {
  const plot = {
    x: box.x + AXIS_WIDTH,
    y: box.y + PANEL_HEAD,
    width: box.width - AXIS_WIDTH,
    height: box.height - PANEL_HEAD - AXIS_HEIGHT,
  };
  const y = (value: number) => plot.y + plot.height * (1 - scale.at(value));
  const parts = [text(box.x, box.y + 12, panel.title, { size: 13, bold: true })];
  for (const tick of scale.ticks) {
    parts.push(line(plot.x, y(tick), plot.x + plot.width, y(tick), GRID));
    parts.push(text(plot.x - 8, y(tick) + 4, panel.write(tick), { size: 11, fill: FAINT, anchor: "end" }));
  }
  return { parts, plot, y };
}

interface Scale {
  ticks: number[];
  /** 0 at the lower end, 1 at the upper. */
  at: (value: number) => number;
}

/** From 0 to a round number above the highest value. */
function linear(values: number[], max?: number): Scale {
  const highest = Math.max(...values, 0);
  const top = max ?? niceAbove(highest === 0 ? 1 : highest);
  const ticks = Array.from({ length: TICKS + 1 }, (_, i) => (top * i) / TICKS);
  return { ticks, at: (value) => Math.min(1, value / top) };
}

/** The next round number with a little room above the value, whose quarters are round too. */
export function niceAbove(value: number): number {
  const decade = 10 ** Math.floor(Math.log10(value));
  return ([1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8].find((step) => step * decade >= value * 1.05) ?? 10) * decade;
}

/** Whole decades around the values. */
function logarithmic(values: number[]): Scale {
  const positive = values.filter((value) => value > 0);
  const low = Math.max(LOW_DECADE, Math.floor(Math.log10(Math.min(...positive))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive))));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  return { ticks, at: (value) => (Math.log10(value) - low) / (high - low) };
}

function bars(panel: BarPanel, box: Box, series: Series[]): string[] {
  const all = panel.groups.flatMap(({ values }) => Object.values(values)).filter((value) => value !== null);
  const { parts, plot, y } = frame(panel, box, linear(all, panel.max));
  const slot = plot.width / panel.groups.length;
  for (const [i, { label, values }] of panel.groups.entries()) {
    const here = series.filter(({ name }) => typeof values[name] === "number");
    const width = Math.min(BAR_MAX, (slot - 14) / Math.max(1, here.length));
    const left = plot.x + slot * i + (slot - width * here.length) / 2;
    for (const [j, { name, colour }] of here.entries()) {
      const value = values[name] ?? 0;
      const x = left + j * width;
      // A bar for zero is 1 px high, to distinguish zero from not measured.
      const height = Math.max(1, plot.y + plot.height - y(value));
      const at = plot.y + plot.height - height;
      parts.push(
        `<rect x="${round(x + 1)}" y="${round(at)}" width="${round(width - 2)}" height="${round(height)}" fill="${colour}"/>`,
      );
      if (width >= LABELLED_MIN)
        parts.push(text(x + width / 2, at - 4, panel.write(value), { size: width < 24 ? 9 : 10, anchor: "middle" }));
    }
    const rows = label.split("\n");
    for (const [row, words] of rows.entries())
      parts.push(
        text(plot.x + slot * (i + 0.5), plot.y + plot.height + 16 + row * 14, words, {
          size: 11,
          fill: FAINT,
          anchor: "middle",
        }),
      );
  }
  parts.push(line(plot.x, plot.y + plot.height, plot.x + plot.width, plot.y + plot.height, FAINT));
  return parts;
}

function lines(panel: LinePanel, box: Box, series: Series[]): string[] {
  const all = panel.lines.flatMap(({ values }) => values).filter((value) => value !== null);
  const { parts, plot, y } = frame(panel, box, panel.log ? logarithmic(all) : linear(all, panel.max));
  const across = panel.log ? logarithmic(panel.xs) : linear(panel.xs, Math.max(...panel.xs) * 1.05);
  const x = (value: number) => plot.x + plot.width * across.at(value);
  for (const value of panel.labelled ?? panel.xs)
    parts.push(
      text(x(value), plot.y + plot.height + 16, value.toLocaleString("en"), {
        size: 11,
        fill: FAINT,
        anchor: "middle",
      }),
    );
  parts.push(
    text(plot.x + plot.width / 2, plot.y + plot.height + 34, panel.xLabel, { size: 11, fill: FAINT, anchor: "middle" }),
  );
  parts.push(line(plot.x, plot.y + plot.height, plot.x + plot.width, plot.y + plot.height, FAINT));
  for (const { series: name, values } of panel.lines) {
    const colour = series.find((one) => one.name === name)?.colour ?? INK;
    const points = values.flatMap((value, i) => (value === null ? [] : [{ x: x(panel.xs[i] ?? 0), y: y(value) }]));
    const path = points.map((point) => `${round(point.x)},${round(point.y)}`).join(" ");
    parts.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of points)
      parts.push(`<circle cx="${round(point.x)}" cy="${round(point.y)}" r="3.5" fill="${colour}"/>`);
  }
  return parts;
}
