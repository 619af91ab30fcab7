/** Marble: noise warped by other noise, colored like polished stone. Flames: the same, rising. */
import { along, disc, glow, lighten } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import type { Field } from "./field.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import type { Scene } from "./scene.ts";

const SHADES = 1024;

export function paintMarble(scene: Scene): void {
  const { canvas, palette, random, detail } = scene;
  const { width, height, unit } = canvas;
  const noise = noiseFrom(random);
  const scale = between(random, 1.1, 1.8);
  const warp = between(random, 1.2, 2.2);
  const bands = between(random, 2.2, 3.6);
  const octaves = 2 + Math.round(2 * detail);
  const angle = random() * Math.PI;
  const field = fieldOf(width, height, unit / 190, (x, y) => {
    const u = (x / unit) * scale;
    const v = (y / unit) * scale;
    const qx = fbm(noise, u, v, 3);
    const qy = fbm(noise, u + 5.2, v + 1.3, 3);
    const r = fbm(noise, u + warp * qx + 1.7, v + warp * qy + 9.2, octaves);
    return 0.5 + 0.5 * Math.sin((u * Math.cos(angle) + v * Math.sin(angle) + r * 1.6 + qx) * bands);
  });
  const stops = [
    palette.near,
    palette.sky[0],
    palette.sky[1],
    palette.accents[0],
    palette.sky[2],
    palette.sky[3],
    palette.light,
  ];
  paintField(canvas, field, ramp(stops), unit * 0.004);
}

export function paintFlames(scene: Scene): void {
  const { canvas, palette, random, detail } = scene;
  const { width, height, unit } = canvas;
  const noise = noiseFrom(random);
  const octaves = 3 + Math.round(2 * detail);
  const sway = between(random, -0.5, 0.5);
  const field = fieldOf(width, height, unit / 190, (x, y) => {
    const up = 1 - y / height;
    const u = ((x - width / 2) / unit) * 2.3 + sway * up;
    const v = (y / unit) * 1.15;
    const bend = fbm(noise, u * 1.2 + 4, v * 1.4 + 40, 3) * (0.25 + 0.9 * up);
    const body = fbm(noise, u + bend, v + 0.5 * bend, octaves);
    const column = Math.exp(-((u * 0.62) ** 2) * (0.5 + up));
    return (1.18 - up * 1.28) * column + body * (0.35 + 0.55 * up);
  });
  const stops: readonly Rgb[] = [
    palette.near,
    palette.near,
    palette.sky[1],
    palette.sky[2],
    palette.glow,
    palette.sky[3],
    palette.light,
    [255, 253, 240],
  ];
  paintField(canvas, field, ramp(stops), unit * 0.002);
  for (let k = 0; k < 150; k++) {
    const x = width / 2 + between(random, -0.45, 0.45) * unit;
    const y = height * (1 - random() ** 0.7);
    const radius = unit * (0.0008 + 0.003 * random() ** 4);
    glow(canvas, x, y, radius * 8, palette.glow, 0.7);
    disc(canvas, x, y, radius, palette.light, 0.9, radius);
  }
}

/** A color table for 0..1, so that each pixel needs only a lookup. */
function ramp(stops: readonly Rgb[]): Uint8Array {
  const table = new Uint8Array(SHADES * 3);
  for (let k = 0; k < SHADES; k++) table.set(along(stops, k / (SHADES - 1)), k * 3);
  return table;
}

/** Colors a field, with a highlight where it slopes away from the light. */
function paintField(canvas: Canvas, field: Field, table: Uint8Array, step: number): void {
  const { width, height, data } = canvas;
  const row = new Float32Array(width);
  const next = new Float32Array(width);
  for (let y = 0; y < height; y++) {
    readRow(field, y, row);
    readRow(field, y + Math.max(1, step), next);
    for (let x = 0, i = y * width * 3; x < width; x++, i += 3) {
      const k = Math.round(Math.min(1, Math.max(0, row[x]!)) * (SHADES - 1)) * 3;
      data[i] = table[k]!;
      data[i + 1] = table[k + 1]!;
      data[i + 2] = table[k + 2]!;
      const slope = next[x]! - row[x]!;
      if (slope > 0.004) lighten(data, i, [255, 255, 255], Math.min(0.35, slope * 6));
    }
  }
}
