/** Filled paths with soft edges, for silhouettes, petals, boats and faces. */
import { blend, mix } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";

export type Point = readonly [number, number];

/** A color, or a gradient down the path's own height. */
export interface Paint {
  readonly top: Rgb;
  readonly bottom?: Rgb;
  readonly alpha?: number;
}

/** Horizontal coverage is exact; vertically, each row is sampled this often. */
const SCANS_PER_ROW = 4;

/** One edge of a path, from its upper end down. */
interface Edge {
  readonly top: number;
  readonly bottom: number;
  readonly x: number;
  readonly slope: number;
}

export function fillPath(canvas: Canvas, points: readonly Point[], paint: Paint): void {
  const edges = edgesOf(points);
  const xs = points.map(([x]) => x);
  const x0 = Math.max(0, Math.floor(Math.min(...xs)));
  const x1 = Math.min(canvas.width, Math.ceil(Math.max(...xs)) + 1);
  const low = edges[0]?.top ?? 0;
  const high = edges.reduce((most, { bottom }) => Math.max(most, bottom), low);
  if (x1 <= x0) return;
  const cover = new Float32Array(x1 - x0);
  let active: Edge[] = [];
  let next = 0;
  const y1 = Math.min(canvas.height, Math.ceil(high));
  for (let y = Math.max(0, Math.floor(low)); y < y1; y++) {
    active = active.filter(({ bottom }) => bottom > y);
    for (let edge = edges[next]; edge && edge.top < y + 1; edge = edges[++next]) active.push(edge);
    cover.fill(0);
    for (let s = 0; s < SCANS_PER_ROW; s++) coverRow(active, y + (s + 0.5) / SCANS_PER_ROW, x0, cover);
    const t = high - low < 1 ? 0 : (y - low) / (high - low);
    const colour = paint.bottom ? mix(paint.top, paint.bottom, t) : paint.top;
    paintRow(canvas, y, x0, cover, colour, paint.alpha ?? 1);
  }
}

/** The edges that are not horizontal, topmost first. */
function edgesOf(points: readonly Point[]): Edge[] {
  const edges: Edge[] = [];
  let from = points[points.length - 1] ?? [0, 0];
  for (const to of points) {
    const [upper, lower] = from[1] < to[1] ? [from, to] : [to, from];
    const tall = lower[1] - upper[1];
    if (tall > 0) edges.push({ top: upper[1], bottom: lower[1], x: upper[0], slope: (lower[0] - upper[0]) / tall });
    from = to;
  }
  return edges.toSorted((a, b) => a.top - b.top);
}

/** Adds one scan line's coverage: even-odd, with fractional coverage at both ends of each span. */
function coverRow(edges: readonly Edge[], y: number, x0: number, cover: Float32Array): void {
  const crossings: number[] = [];
  for (const { top, bottom, x, slope } of edges) {
    if (top <= y && y < bottom) crossings.push(x - x0 + (y - top) * slope);
  }
  crossings.sort((a, b) => a - b);
  for (let i = 0; i + 1 < crossings.length; i += 2) {
    const from = Math.max(0, crossings[i]!);
    const to = Math.min(cover.length, crossings[i + 1]!);
    if (to <= from) continue;
    const first = Math.floor(from);
    const last = Math.min(cover.length - 1, Math.floor(to));
    if (first === last) {
      cover[first]! += (to - from) / SCANS_PER_ROW;
      continue;
    }
    cover[first]! += (first + 1 - from) / SCANS_PER_ROW;
    for (let x = first + 1; x < last; x++) cover[x]! += 1 / SCANS_PER_ROW;
    cover[last]! += (to - last) / SCANS_PER_ROW;
  }
}

function paintRow(canvas: Canvas, y: number, x0: number, cover: Float32Array, colour: Rgb, alpha: number): void {
  for (let x = 0, i = (y * canvas.width + x0) * 3; x < cover.length; x++, i += 3) {
    const c = cover[x]!;
    if (c > 0) blend(canvas.data, i, colour, Math.min(1, c) * alpha);
  }
}

/** A closed curve through all points (Catmull-Rom), as a polygon. */
export function closed(points: readonly Point[], perSide = 8): Point[] {
  const n = points.length;
  return points.flatMap((_, i) =>
    spline(points[(i + n - 1) % n]!, points[i]!, points[(i + 1) % n]!, points[(i + 2) % n]!, perSide),
  );
}

/** An open curve through all points. */
export function open(points: readonly Point[], perSide = 8): Point[] {
  const last = points.length - 1;
  const out: Point[] = [];
  for (let i = 0; i < last; i++) {
    out.push(
      ...spline(points[Math.max(0, i - 1)]!, points[i]!, points[i + 1]!, points[Math.min(last, i + 2)]!, perSide),
    );
  }
  const end = points[last];
  if (end) out.push(end);
  return out;
}

function spline(a: Point, b: Point, c: Point, d: Point, count: number): Point[] {
  return Array.from({ length: count }, (_, k): Point => {
    const t = k / count;
    return [catmull(a[0], b[0], c[0], d[0], t), catmull(a[1], b[1], c[1], d[1], t)];
  });
}

function catmull(a: number, b: number, c: number, d: number, t: number): number {
  return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/** A line whose width goes from `from` to `to`. */
export function stroke(canvas: Canvas, line: readonly Point[], from: number, to: number, paint: Paint): void {
  const left: Point[] = [];
  const right: Point[] = [];
  line.forEach(([x, y], i) => {
    const [ax, ay] = line[Math.max(0, i - 1)]!;
    const [bx, by] = line[Math.min(line.length - 1, i + 1)]!;
    const length = Math.hypot(bx - ax, by - ay) || 1;
    const half = (from + ((to - from) * i) / Math.max(1, line.length - 1)) / 2;
    const nx = (-(by - ay) / length) * half;
    const ny = ((bx - ax) / length) * half;
    left.push([x + nx, y + ny]);
    right.push([x - nx, y - ny]);
  });
  fillPath(canvas, [...left, ...right.toReversed()], paint);
}
