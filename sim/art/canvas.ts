/**
 * The canvas: an RGB byte grid, and the primitives that all scenes use. Coordinates are pixels, colors 0 to 255.
 * Independent of the scenes.
 */
import type { Pixels } from "../png.ts";

export type Rgb = readonly [number, number, number];

export interface Canvas extends Pixels {
  /** The unit of length for all features, so that a scene looks alike at any size and aspect ratio. */
  readonly unit: number;
}

export function newCanvas(width: number, height: number): Canvas {
  return {
    width,
    height,
    data: new Uint8Array(width * height * 3),
    unit: Math.sqrt(width * height),
  };
}

export function mix(a: Rgb, b: Rgb, t: number): Rgb {
  const k = Math.min(1, Math.max(0, t));
  return [a[0] + (b[0] - a[0]) * k, a[1] + (b[1] - a[1]) * k, a[2] + (b[2] - a[2]) * k];
}

export function shade(colour: Rgb, factor: number): Rgb {
  return [Math.min(255, colour[0] * factor), Math.min(255, colour[1] * factor), Math.min(255, colour[2] * factor)];
}

/** The color at `t` (0 to 1) of evenly spaced stops. */
export function along(stops: readonly Rgb[], t: number): Rgb {
  const at = Math.min(1, Math.max(0, t)) * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(at));
  return mix(stops[i]!, stops[i + 1]!, at - i);
}

export function smooth(t: number): number {
  const k = Math.min(1, Math.max(0, t));
  return k * k * (3 - 2 * k);
}

/** Blends a color into the pixel whose first byte is at `i`. */
export function blend(data: Uint8Array, i: number, colour: Rgb, alpha: number): void {
  data[i] = data[i]! + (colour[0] - data[i]!) * alpha;
  data[i + 1] = data[i + 1]! + (colour[1] - data[i + 1]!) * alpha;
  data[i + 2] = data[i + 2]! + (colour[2] - data[i + 2]!) * alpha;
}

/** Adds light to the pixel whose first byte is at `i` (screen blending), so that it never clips hard. */
export function lighten(data: Uint8Array, i: number, colour: Rgb, strength: number): void {
  data[i] = data[i]! + (255 - data[i]!) * (colour[0] / 255) * strength;
  data[i + 1] = data[i + 1]! + (255 - data[i + 1]!) * (colour[1] / 255) * strength;
  data[i + 2] = data[i + 2]! + (255 - data[i + 2]!) * (colour[2] / 255) * strength;
}

/** Ordered dithering, 4 x 4: hides the steps of a gradient and still compresses well. */
const DITHER = Float32Array.of(0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5).map((v) => v / 16);

/** Fills whole rows from `top` to `bottom` with a vertical gradient. */
export function gradient(canvas: Canvas, stops: readonly Rgb[], top: number, bottom: number): void {
  const { width, height, data } = canvas;
  const from = Math.max(0, Math.floor(top));
  const to = Math.min(height, Math.ceil(bottom));
  for (let y = from; y < to; y++) {
    const [r, g, b] = along(stops, (y - top) / Math.max(1, bottom - top));
    let i = y * width * 3;
    for (let x = 0; x < width; x++) {
      const d = DITHER[(y & 3) * 4 + (x & 3)]!;
      data[i++] = Math.min(255, r + d);
      data[i++] = Math.min(255, g + d);
      data[i++] = Math.min(255, b + d);
    }
  }
}

const GLOW_SHADES = 512;
/** A glow's falloff by squared distance, as a lookup table: it is used for most pixels of a scene. */
const GLOW = Float32Array.from({ length: GLOW_SHADES + 1 }, (_, k) => {
  const d2 = k / GLOW_SHADES;
  return (1 - d2) ** 2 / (1 + 14 * d2);
});

/** Light that fades with distance from a point, out to `radius`. */
export function glow(canvas: Canvas, cx: number, cy: number, radius: number, colour: Rgb, strength: number): void {
  const { width, height, data } = canvas;
  const [r, g, b] = [(colour[0] / 255) * strength, (colour[1] / 255) * strength, (colour[2] / 255) * strength];
  const y1 = Math.min(height, Math.ceil(cy + radius));
  for (let y = Math.max(0, Math.floor(cy - radius)); y < y1; y++) {
    const half = Math.sqrt(Math.max(0, radius * radius - (y - cy) ** 2));
    const x1 = Math.min(width, Math.ceil(cx + half));
    for (let x = Math.max(0, Math.floor(cx - half)); x < x1; x++) {
      const d2 = ((x - cx) * (x - cx) + (y - cy) * (y - cy)) / (radius * radius);
      const light = GLOW[Math.min(GLOW_SHADES, (d2 * GLOW_SHADES) | 0)]!;
      const i = (y * width + x) * 3;
      data[i] = data[i]! + (255 - data[i]!) * r * light;
      data[i + 1] = data[i + 1]! + (255 - data[i + 1]!) * g * light;
      data[i + 2] = data[i + 2]! + (255 - data[i + 2]!) * b * light;
    }
  }
}

/** A disc with a soft edge of `blur` pixels. */
export function disc(
  canvas: Canvas,
  cx: number,
  cy: number,
  radius: number,
  colour: Rgb,
  alpha: number,
  blur = 1,
): void {
  const { width, height, data } = canvas;
  const reach = radius + blur / 2;
  const core = Math.max(0, radius - blur / 2);
  const y1 = Math.min(height, Math.ceil(cy + reach + 1));
  for (let y = Math.max(0, Math.floor(cy - reach)); y < y1; y++) {
    const dy2 = (y + 0.5 - cy) ** 2;
    const half = Math.sqrt(Math.max(0, reach * reach - dy2)) + 1;
    const x1 = Math.min(width, Math.ceil(cx + half));
    for (let x = Math.max(0, Math.floor(cx - half)); x < x1; x++) {
      const d2 = (x + 0.5 - cx) * (x + 0.5 - cx) + dy2;
      const inside = d2 <= core * core ? 1 : (reach - Math.sqrt(d2)) / blur;
      if (inside > 0) blend(data, (y * width + x) * 3, colour, alpha * Math.min(1, inside));
    }
  }
}

/** Darkens the corners slightly. */
export function vignette(canvas: Canvas, strength: number): void {
  const { width, height, data } = canvas;
  for (let y = 0; y < height; y++) {
    const v = (2 * y) / height - 1;
    for (let x = 0, i = y * width * 3; x < width; x++, i += 3) {
      const u = (2 * x) / width - 1;
      const d = u * u + v * v;
      if (d < 0.7) continue;
      const keep = 256 - strength * 110 * (d - 0.7);
      data[i] = (data[i]! * keep) >> 8;
      data[i + 1] = (data[i + 1]! * keep) >> 8;
      data[i + 2] = (data[i + 2]! * keep) >> 8;
    }
  }
}
