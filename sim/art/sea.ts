/** Open water under a low sun: glitter, swell, headlands, sometimes a sail. */
import { blend, lighten, mix, shade } from "./canvas.ts";
import type { Rgb } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import { closed, fillPath, stroke } from "./path.ts";
import { paintRidge, skyline } from "./ridge.ts";
import type { Scene } from "./scene.ts";
import { paintBirds, paintSky } from "./sky.ts";
import type { Sun } from "./sky.ts";

export function paintSea(scene: Scene): void {
  const { canvas, palette, random, prompt } = scene;
  const { height, unit, width } = canvas;
  const horizon = Math.round(height * between(random, 0.5, 0.62));
  const sun = paintSky(scene, horizon, between(random, 0.5, 1));
  const left = random() < 0.5;
  for (let k = 0; k < 3; k++) {
    const noise = noiseFrom(random);
    const crest = skyline(canvas, noise, horizon, unit * (0.1 + 0.07 * k), 1.9, 0.6, 6);
    for (let x = 0; x < width; x++) {
      const across = left ? x / width : 1 - x / width;
      crest[x] =
        horizon + unit * 0.002 - Math.max(0, horizon - crest[x]!) * Math.max(0, 1 - across / (0.75 - 0.2 * k)) ** 0.7;
    }
    const body = mix(mix(palette.far, palette.sky[2], 0.4 - 0.15 * k), palette.near, 0.25 + 0.27 * k);
    paintRidge(canvas, noise, crest, horizon, {
      crest: body,
      foot: mix(body, palette.sky[3], 0.3 - 0.1 * k),
      depth: unit * 0.15,
      relief: 0.35,
      lean: left ? 1 : -1,
    });
  }
  paintWater(scene, horizon, sun);
  if (/boat|ship|sail|船|帆/i.test(prompt) || random() < 0.7) paintSail(scene, horizon, left);
  paintBirds(scene, sun, shade(palette.near, 0.9));
}

/** Rows of swell: each pixel reflects a part of the sky by its slope, and glitters under the sun. */
function paintWater(scene: Scene, horizon: number, sun: Sun): void {
  const { canvas, palette, random, detail } = scene;
  const { width, height, data, unit } = canvas;
  const noise = noiseFrom(random);
  const octaves = 2 + Math.round(2 * detail);
  const depth = height - horizon;
  const swell = fieldOf(width, depth, unit / 300, (x, y) => {
    const distance = 0.05 + (y / depth) * 0.95;
    const u = (x - width / 2) / unit / distance;
    return fbm(noise, u * 2.1, 5.5 / distance + u * 0.2, octaves);
  });
  const row = new Float32Array(width);
  const deep = mix(palette.near, palette.sky[0], 0.5);
  const face = mix(palette.sky[1], palette.sky[2], 0.45);
  const shine: Rgb = mix(palette.light, palette.glow, 0.25);
  for (let y = horizon; y < height; y++) {
    readRow(swell, y - horizon, row);
    const near = (y - horizon) / depth;
    const body = mix(mix(palette.sky[3], face, Math.min(1, near * 4)), deep, near ** 0.6 * 0.85);
    const lit = mix(palette.sky[2], face, near);
    const spread = unit * (0.035 + 0.2 * near);
    for (let x = 0; x < width; x++) {
      const i = (y * width + x) * 3;
      const slope = row[x]! * (0.35 + 0.65 * Math.min(1, near * 3));
      data[i] = body[0];
      data[i + 1] = body[1];
      data[i + 2] = body[2];
      blend(data, i, slope > 0 ? lit : deep, Math.min(0.8, Math.abs(slope) * 1.5));
      const off = (x - sun.x) / spread;
      const path = Math.exp(-off * off) * (slope * 2.6 + 0.28 - 0.3 * near);
      if (path > 0.02) lighten(data, i, shine, Math.min(0.95, path * 1.5));
    }
  }
}

function paintSail(scene: Scene, horizon: number, left: boolean): void {
  const { canvas, palette, random } = scene;
  const { unit, width, height } = canvas;
  const s = unit * between(random, 0.09, 0.15);
  const x = width * (left ? between(random, 0.58, 0.82) : between(random, 0.18, 0.42));
  const y = horizon + (height - horizon) * between(random, 0.1, 0.3);
  const hull = shade(palette.near, 0.7);
  const cloth = mix(palette.light, palette.accents[0], 0.12);
  fillPath(
    canvas,
    [
      [x - s * 0.62, y - s * 0.13],
      [x + s * 0.7, y - s * 0.15],
      [x + s * 0.48, y + s * 0.1],
      [x - s * 0.45, y + s * 0.1],
    ],
    { top: hull },
  );
  stroke(
    canvas,
    [
      [x, y - s * 0.1],
      [x + s * 0.02, y - s * 1.75],
    ],
    s * 0.035,
    s * 0.02,
    { top: hull },
  );
  fillPath(
    canvas,
    closed(
      [
        [x + s * 0.05, y - s * 1.68],
        [x + s * 0.42, y - s * 0.85],
        [x + s * 0.66, y - s * 0.24],
        [x + s * 0.06, y - s * 0.24],
      ],
      6,
    ),
    { top: cloth, bottom: mix(cloth, palette.sky[2], 0.5) },
  );
  fillPath(
    canvas,
    [
      [x - s * 0.04, y - s * 1.5],
      [x - s * 0.05, y - s * 0.24],
      [x - s * 0.52, y - s * 0.22],
    ],
    { top: mix(cloth, palette.accents[0], 0.35), bottom: mix(palette.accents[0], cloth, 0.3) },
  );
  for (let k = 0; k < 9; k++) {
    const ry = y + s * (0.16 + k * 0.11);
    const half = s * (0.55 - k * 0.045) * between(random, 0.6, 1);
    stroke(
      canvas,
      [
        [x - half, ry],
        [x + half * 0.9, ry + s * 0.01],
      ],
      s * 0.05,
      s * 0.02,
      { top: k % 2 ? cloth : hull, alpha: 0.38 - k * 0.03 },
    );
  }
}
