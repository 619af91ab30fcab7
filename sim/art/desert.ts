/** Dunes: long soft crests, lit on one flank, with wind ripples in front. */
import { blend, mix, shade, smooth } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import { fillPath } from "./path.ts";
import type { Point } from "./path.ts";
import type { Scene } from "./scene.ts";
import { paintSky } from "./sky.ts";

const LAYERS = 5;

export function paintDesert(scene: Scene): void {
  const { canvas, random } = scene;
  const { width, height, unit } = canvas;
  const horizon = height * between(random, 0.48, 0.58);
  const sun = paintSky(scene, horizon + unit * 0.02, between(random, 0.15, 0.6));
  const lean = sun.x < width / 2 ? 1 : -1;
  for (let k = 0; k < LAYERS; k++) {
    const t = k / (LAYERS - 1);
    const base = horizon + (height - horizon) * t ** 1.3 * 0.8;
    paintDune(scene, base, unit * (0.05 + 0.13 * t), t, lean);
    if (k === 2) paintCaravan(scene, base, unit * 0.03, lean);
  }
}

function paintDune(scene: Scene, base: number, rise: number, t: number, lean: number): void {
  const { canvas, palette, random } = scene;
  const { width, height, data, unit } = canvas;
  const noise = noiseFrom(random);
  const scale = 1.5 - 0.5 * t;
  const crest = Float32Array.from(
    { length: width },
    (_, x) => base - rise * (0.5 + fbm(noise, (x / unit) * scale, 3.7, 2)),
  );
  const sand = mix(mix(palette.far, palette.sky[3], 0.5 * (1 - t)), palette.accents[1] ?? palette.far, 0.15);
  const lit = mix(sand, palette.light, 0.38);
  const dark = mix(sand, palette.near, 0.42 + 0.3 * t);
  const ripples = fieldOf(
    width,
    height - base + rise * 2,
    unit / 150,
    (x, y) => noise((x / unit) * 3, (y / unit) * 3) * 2.2,
  );
  // The lit flank's edge slopes down and away from the crest, which makes a hill look like a dune.
  const top = Math.max(0, Math.floor(base - rise * 1.7));
  const flanks = fieldOf(width, height - top, unit / 170, (x, y) => {
    const under = y + top - crest[Math.min(width - 1, Math.floor(x))]!;
    return fbm(noise, (x / unit) * scale + (lean * under * 1.6) / unit, 9.4, 2);
  });
  const row = new Float32Array(width);
  const flank = new Float32Array(width);
  for (let y = top; y < height; y++) {
    readRow(ripples, y - top, row);
    readRow(flanks, y - top, flank);
    for (let x = 0; x < width; x++) {
      const under = y + 1 - crest[x]!;
      if (under <= 0) continue;
      const wave = Math.sin((under / unit) * 420 * (1.25 - t) + row[x]! * 9) * 0.035 * t;
      const fall = Math.min(1, under / (rise * 2.6));
      const colour = shade(mix(dark, lit, smooth(flank[x]! * 3.4 + 0.5) * (1 - 0.45 * fall)), 1 + wave);
      blend(data, (y * width + x) * 3, colour, Math.min(1, under));
    }
  }
}

function paintCaravan(scene: Scene, base: number, size: number, lean: number): void {
  const { canvas, palette, random } = scene;
  const count = 3 + Math.floor(random() * 3);
  const start = canvas.width * between(random, 0.25, 0.55);
  for (let k = 0; k < count; k++) {
    const x = start + k * size * 2;
    const y = base - size * 0.9 + Math.sin(k) * size * 0.12;
    const at = (u: number, v: number): Point => [x + u * size * lean, y + v * size];
    const legs: Point[] = [
      [0.5, 0.9],
      [0.42, 0.3],
      [0.05, 0.32],
      [0, 0.9],
      [-0.08, 0.9],
      [-0.12, 0.32],
      [-0.4, 0.32],
      [-0.48, 0.9],
      [-0.56, 0.9],
      [-0.56, 0.1],
    ];
    const back: Point[] = [
      [-0.5, -0.08],
      [-0.28, -0.18],
      [-0.05, -0.5],
      [0.2, -0.2],
      [0.5, -0.12],
      [0.72, -0.2],
      [0.82, -0.62],
      [1.12, -0.62],
      [1.1, -0.48],
      [0.92, -0.42],
      [0.86, 0.05],
      [0.58, 0.2],
      [0.58, 0.9],
    ];
    fillPath(
      canvas,
      [...legs, ...back].map(([u, v]) => at(u, v)),
      { top: shade(palette.near, 0.8) },
    );
  }
}
