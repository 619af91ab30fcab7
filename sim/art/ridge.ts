/** A ridge: one silhouette across the whole width, filled downwards with light and haze. */
import { blend } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import type { Field } from "./field.ts";
import { crests, fbm } from "./noise.ts";
import type { Noise, Random } from "./noise.ts";

export interface RidgePaint {
  readonly crest: Rgb;
  readonly foot: Rgb;
  /** Pixels over which the color changes from that of the crest to that of the foot. */
  readonly depth: number;
  /** 0 to 1: how strongly light shades the slopes. */
  readonly relief: number;
  /** Which way the lit slopes face: -1 left, 1 right. */
  readonly lean: number;
  readonly snow?: { readonly colour: Rgb; readonly line: number };
}

/** A skyline: the pixel row of the crest for each column; `sharp` sets the shape of its crests (0 dunes, 1 alps). */
export function skyline(
  canvas: Canvas,
  noise: Noise,
  base: number,
  rise: number,
  scale: number,
  sharp: number,
  octaves: number,
): Float32Array {
  const shift = noise(base * 0.013, rise * 0.017) * 40 + 50;
  return Float32Array.from({ length: canvas.width }, (_, x) => {
    const u = (x / canvas.unit) * scale + shift;
    const soft = 0.5 + 0.5 * fbm(noise, u, shift, Math.max(1, Math.round(octaves * (0.3 + 0.7 * sharp))));
    const peaks = crests(noise, u * 0.7, shift * 1.7, octaves) - 0.35;
    return base - rise * (soft * (1 - sharp * 0.75) + peaks * sharp * 0.75);
  });
}

export function paintRidge(canvas: Canvas, noise: Noise, crest: Float32Array, bottom: number, paint: RidgePaint): void {
  const { width, height, unit } = canvas;
  const top = Math.max(0, Math.floor(crest.reduce((a, b) => Math.min(a, b), height)));
  const to = Math.min(height, Math.ceil(bottom));
  const reach = Math.ceil(unit * SLOPE_REACH);
  const creases = paint.relief > 0 ? creasesOf(canvas, noise, to - top, reach, paint.lean) : null;
  const row = new Float32Array(width + 2 * reach);
  const light = new Float32Array(width);
  const across = reach + Math.round(reach * paint.lean);
  for (let y = top; y < to; y++) {
    if (creases) readRow(creases, y - top, row);
    for (let x = 0; x < width; x++) light[x] = row[x + reach]! - row[x + across]!;
    paintRidgeRow(canvas, y, crest, light, paint);
  }
}

function paintRidgeRow(
  { width, data, unit }: Canvas,
  y: number,
  crest: Float32Array,
  lit: Float32Array,
  paint: RidgePaint,
): void {
  const { crest: high, foot: low, snow } = paint;
  for (let x = 0, i = y * width * 3; x < width; x++, i += 3) {
    const under = y + 1 - crest[x]!;
    if (under <= 0) continue;
    const t = Math.min(1, under / paint.depth);
    const light = 1 + paint.relief * lit[x]! * (1 - t * 0.7);
    let r = (high[0] + (low[0] - high[0]) * t) * light;
    let g = (high[1] + (low[1] - high[1]) * t) * light;
    let b = (high[2] + (low[2] - high[2]) * t) * light;
    const cap = snow ? (snow.line - y) / (unit * 0.05) + lit[x]! * 2.2 : 0;
    if (snow && cap > 0) {
      const k = Math.min(1, cap) * 0.9;
      const bright = 0.86 + lit[x]! * 0.3;
      r += (snow.colour[0] * bright - r) * k;
      g += (snow.colour[1] * bright - g) * k;
      b += (snow.colour[2] * bright - b) * k;
    }
    const cover = Math.min(1, under);
    data[i] = clamp(data[i]! + (r - data[i]!) * cover);
    data[i + 1] = clamp(data[i + 1]! + (g - data[i + 1]!) * cover);
    data[i + 2] = clamp(data[i + 2]! + (b - data[i + 2]!) * cover);
  }
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** The distance between the two points of a slope that are compared for its light. */
const SLOPE_REACH = 0.017;

/** Crests whose slope towards the light shades the ridge; stretched downhill, and `reach` wider on both sides. */
function creasesOf(canvas: Canvas, noise: Noise, rows: number, reach: number, lean: number): Field {
  const { unit, width } = canvas;
  return fieldOf(width + 2 * reach, rows, unit / 240, (x, y) => {
    const u = (x / unit) * 7 + (y / unit) * 2.2 * lean;
    return crests(noise, u, (y / unit) * 4.2, 4) * 1.9;
  });
}

/** Adds firs to a skyline: each raises it by a triangle with hanging boughs. */
export function plantFirs(canvas: Canvas, random: Random, crest: Float32Array, size: number, density: number): void {
  const base = Float32Array.from(crest);
  const count = Math.round((canvas.width / size) * density);
  for (let k = 0; k < count; k++) {
    const x0 = random() * canvas.width;
    const tall = size * (0.45 + random() ** 2 * 1.1);
    const half = tall * (0.19 + random() * 0.06);
    const tiers = 5 + Math.floor(random() * 4);
    const foot = base[Math.min(canvas.width - 1, Math.floor(x0))]! + tall * 0.12;
    for (let x = Math.max(0, Math.ceil(x0 - half)); x < Math.min(canvas.width, x0 + half); x++) {
      const off = Math.abs(x - x0) / half;
      const tier = (off * tiers) % 1;
      const reach = Math.max(0, 1 - off - 0.55 * (tier / tiers));
      crest[x] = Math.min(crest[x]!, foot - tall * reach ** 0.92);
    }
  }
}

/** Mirrors what is above the waterline below it, distorted by ripples and tinted. */
export function paintMirror(canvas: Canvas, noise: Noise, line: number, tint: Rgb, strength: number): void {
  const { width, height, data, unit } = canvas;
  const from = Math.floor(line);
  const depth = Math.max(1, height - from);
  for (let y = from; y < height; y++) {
    const near = (y - from) / depth;
    const wave = noise((y / unit) * (90 - 60 * near), 3.3) + 0.5 * noise((y / unit) * 190, 8.1);
    const source = Math.max(0, Math.min(from - 1, Math.round(2 * from - y - 1 + wave * unit * 0.008 * (0.4 + near))));
    for (let x = 0; x < width; x++) {
      const sway = Math.round(noise((x / unit) * 9, (y / unit) * 130) * unit * 0.004 * (0.3 + 1.7 * near));
      const sx = Math.min(width - 1, Math.max(0, x + sway));
      const i = (y * width + x) * 3;
      const s = (source * width + sx) * 3;
      data[i] = data[s]!;
      data[i + 1] = data[s + 1]!;
      data[i + 2] = data[s + 2]!;
      blend(data, i, tint, strength * (0.35 + 0.65 * near) + 0.05 * wave * near);
    }
  }
}
