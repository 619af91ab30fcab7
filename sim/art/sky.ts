/** The sky that most scenes share: gradient, sun or moon, stars, clouds. */
import { blend, disc, glow, gradient, mix, smooth } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import type { Scene } from "./scene.ts";
import { fillPath } from "./path.ts";

export interface Sun {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

/** Paints the sky down to `horizon` and returns the position of the light. */
export function paintSky(scene: Scene, horizon: number, cloudiness: number): Sun {
  const { canvas, palette, random } = scene;
  const { unit, width } = canvas;
  gradient(canvas, palette.sky, 0, horizon);
  if (palette.night) paintStars(scene, horizon);
  const sun: Sun = {
    x: width * between(random, 0.22, 0.78),
    y: horizon - unit * (palette.night ? between(random, 0.24, 0.36) : between(random, 0.08, 0.26)),
    radius: unit * between(random, 0.035, 0.075),
  };
  glow(canvas, sun.x, sun.y, unit * 0.95, palette.glow, 0.85);
  glow(canvas, sun.x, sun.y, sun.radius * 4, palette.light, 0.6);
  disc(canvas, sun.x, sun.y, sun.radius, palette.light, 1, Math.max(1, unit * 0.002));
  if (palette.night) paintCraters(canvas, sun, mix(palette.light, palette.glow, 0.55));
  if (cloudiness > 0) paintClouds(scene, horizon, sun, cloudiness);
  return sun;
}

function paintCraters(canvas: Canvas, moon: Sun, colour: Rgb): void {
  const spots = [
    [-0.3, -0.25, 0.3],
    [0.25, 0.1, 0.22],
    [-0.1, 0.42, 0.18],
    [0.38, -0.4, 0.13],
  ] as const;
  for (const [dx, dy, r] of spots) {
    disc(
      canvas,
      moon.x + dx * moon.radius,
      moon.y + dy * moon.radius,
      r * moon.radius,
      colour,
      0.35,
      moon.radius * 0.12,
    );
  }
}

export function paintStars(scene: Scene, horizon: number): void {
  const { canvas, random, detail } = scene;
  const count = Math.round(260 * (0.4 + 0.6 * detail));
  for (let k = 0; k < count; k++) {
    const x = random() * canvas.width;
    const y = random() * random() * horizon;
    const bright = random() ** 5;
    const radius = canvas.unit * (0.0006 + 0.0016 * bright);
    disc(canvas, x, y, radius, [255, 250, 240], 0.35 + 0.65 * bright, Math.max(0.8, radius));
    if (bright > 0.6) glow(canvas, x, y, radius * 9, [200, 215, 255], 0.5);
  }
}

/** Clouds: one warped noise field, lit on the side of the sun by comparing it with itself a step away. */
function paintClouds(scene: Scene, horizon: number, sun: Sun, cloudiness: number): void {
  const { canvas, palette, random, detail } = scene;
  const { width, data, unit } = canvas;
  const noise = noiseFrom(random);
  const octaves = 3 + Math.round(2 * detail);
  const drift = random() * 100;
  const cloud = fieldOf(width, horizon, unit / 220, (x, y) => {
    const depth = 0.35 + 1.5 * Math.max(0.04, 1 - y / horizon);
    const u = ((x - width / 2) / unit / depth) * 2.4 + drift;
    const v = 3.4 / depth;
    return fbm(noise, u + 0.4 * noise(u * 1.3, v * 1.3), v * 2.2, octaves);
  });
  const bright = mix(palette.light, palette.sky[3], 0.25);
  const dull = mix(palette.sky[1], palette.sky[2], 0.4);
  const row = new Float32Array(width);
  const lit = new Float32Array(width);
  const reach = unit * 0.014;
  for (let y = 0; y < horizon; y++) {
    readRow(cloud, y, row);
    readRow(cloud, y + (sun.y < y ? -reach : reach), lit);
    const fade = smooth((horizon - y) / (unit * 0.1)) * cloudiness;
    for (let x = 0; x < width; x++) {
      const cover = smooth((row[x]! + 0.02) * 2.6);
      if (cover <= 0.01) continue;
      const light = 0.5 + (row[x]! - lit[x]!) * 5;
      blend(data, (y * width + x) * 3, mix(dull, bright, light), cover * fade * 0.85);
    }
  }
}

/** A few birds, drawn as two strokes each. */
export function paintBirds(scene: Scene, near: Sun, colour: Rgb): void {
  const { canvas, random } = scene;
  const flock = 3 + Math.floor(random() * 6);
  const size = canvas.unit * 0.011;
  const cx = near.x + canvas.unit * between(random, -0.25, 0.25);
  const cy = near.y - canvas.unit * between(random, 0.02, 0.12);
  for (let k = 0; k < flock; k++) {
    const x = cx + canvas.unit * between(random, -0.13, 0.13);
    const y = cy + canvas.unit * between(random, -0.06, 0.06);
    const s = size * between(random, 0.6, 1.2);
    const lift = s * between(random, 0.35, 0.8);
    fillPath(
      canvas,
      [
        [x - s, y - lift],
        [x - s * 0.45, y - lift * 0.75],
        [x, y],
        [x + s * 0.45, y - lift * 0.75],
        [x + s, y - lift],
        [x + s * 0.42, y - lift * 0.45],
        [x, y + s * 0.22],
        [x - s * 0.42, y - lift * 0.45],
      ],
      { top: colour, alpha: 0.85 },
    );
  }
}
