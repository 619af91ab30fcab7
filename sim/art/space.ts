/** A nebula, stars, and a planet lit from one side. */
import { along, blend, disc, glow, gradient, lighten, mix, shade, smooth } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { fieldOf, readRow } from "./field.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import type { Scene } from "./scene.ts";
import { paintStars } from "./sky.ts";

export function paintSpace(scene: Scene): void {
  const { canvas, palette, random } = scene;
  const night = shade(palette.sky[0], palette.night ? 0.7 : 0.28);
  gradient(canvas, [shade(night, 0.6), night, mix(night, palette.sky[1], 0.3)], 0, canvas.height);
  paintNebula(scene);
  paintStars(scene, canvas.height);
  const x = canvas.width * between(random, 0.3, 0.7);
  const y = canvas.height * between(random, 0.36, 0.6);
  const radius = canvas.unit * between(random, 0.15, 0.27);
  const tilt = between(random, -0.5, 0.5);
  const ringed = /saturn|ring/i.test(scene.prompt) || random() < 0.6;
  if (ringed) paintRing(scene, x, y, radius, tilt, false);
  paintPlanet(scene, x, y, radius, tilt);
  if (ringed) paintRing(scene, x, y, radius, tilt, true);
  paintMoon(scene, x, y, radius);
}

function paintNebula(scene: Scene): void {
  const { canvas, palette, random, detail } = scene;
  const { width, height, unit, data } = canvas;
  const noise = noiseFrom(random);
  const octaves = 3 + Math.round(2 * detail);
  const warp = between(random, 0.8, 1.5);
  const cloud = fieldOf(width, height, unit / 170, (x, y) => {
    const u = (x / unit) * 1.7;
    const v = (y / unit) * 1.7;
    const wu = fbm(noise, u + 5.2, v + 1.3, 3) * warp;
    const wv = fbm(noise, u + 9.7, v + 8.8, 3) * warp;
    return fbm(noise, u + wu + 30, v + wv + 30, octaves);
  });
  const tint = fieldOf(
    width,
    height,
    unit / 60,
    (x, y) => 0.5 + fbm(noise, (x / unit) * 1.2 + 60, (y / unit) * 1.2, 2),
  );
  const stops: readonly Rgb[] = [
    palette.accents[1] ?? palette.glow,
    palette.glow,
    palette.accents[2] ?? palette.light,
    palette.accents[0],
  ];
  const row = new Float32Array(width);
  const hue = new Float32Array(width);
  for (let y = 0; y < height; y++) {
    readRow(cloud, y, row);
    readRow(tint, y, hue);
    for (let x = 0; x < width; x++) {
      const thick = smooth(row[x]! * 1.9 + 0.42);
      if (thick < 0.01) continue;
      lighten(data, (y * width + x) * 3, along(stops, hue[x]!), thick * thick * 0.72);
    }
  }
}

function paintPlanet(scene: Scene, cx: number, cy: number, radius: number, tilt: number): void {
  const { canvas, palette, random } = scene;
  const noise = noiseFrom(random);
  glow(canvas, cx - radius * 0.25, cy - radius * 0.25, radius * 1.75, palette.glow, 0.55);
  const bands: readonly Rgb[] = [
    palette.sky[2],
    palette.accents[0],
    palette.sky[3],
    mix(palette.accents[1] ?? palette.far, palette.far, 0.5),
    palette.light,
  ];
  const reach = radius + 1;
  eachPixel(canvas, cx, cy, reach, (x, y, i) => {
    const u = (x - cx) / radius;
    const v = (y - cy) / radius;
    const d = Math.hypot(u, v);
    const cover = Math.min(1, (1 - d) * radius + 0.5);
    if (cover <= 0) return;
    const z = Math.sqrt(Math.max(0, 1 - d * d));
    const across = u * Math.cos(tilt) + v * Math.sin(tilt);
    const down = v * Math.cos(tilt) - u * Math.sin(tilt);
    const swirl = fbm(noise, across * 1.6 + 9, down * 6, 4);
    const band = along(bands, 0.5 + 0.5 * Math.sin(down * 7 + swirl * 2.4));
    const light = Math.max(0.03, -0.62 * u - 0.5 * v + 0.6 * z);
    const rim = (1 - z) ** 3 * Math.max(0, -u - v) * 0.35;
    blend(canvas.data, i, mix(shade(band, Math.min(1.08, light * 1.15)), palette.glow, rim), cover);
  });
}

/** The ring's far half is painted before the planet, its near half after it. */
function paintRing(scene: Scene, cx: number, cy: number, radius: number, tilt: number, near: boolean): void {
  const { canvas, palette, random } = scene;
  const noise = noiseFrom(random);
  const sin = Math.sin(tilt);
  const cos = Math.cos(tilt);
  eachPixel(canvas, cx, cy, radius * 2.3, (x, y, i) => {
    const across = (x - cx) * cos + (y - cy) * sin;
    const down = (y - cy) * cos - (x - cx) * sin;
    if (down > 0 !== near) return;
    const r = Math.hypot(across, down * 3.6) / radius;
    if (r < 1.28 || r > 2.25) return;
    const grain = 0.55 + 0.45 * noise(r * 26, 1.5);
    const edge = smooth((r - 1.28) * 12) * smooth((2.25 - r) * 9) * (Math.abs(r - 1.86) < 0.03 ? 0.2 : 1);
    const shadow = across > 0 && !near && across < radius * 1.1 ? 0.35 : 1;
    blend(canvas.data, i, mix(palette.far, palette.light, grain), edge * grain * 0.75 * shadow);
  });
}

function paintMoon(scene: Scene, cx: number, cy: number, radius: number): void {
  const { canvas, palette, random } = scene;
  const angle = random() * Math.PI * 2;
  const x = cx + Math.cos(angle) * radius * 2.1;
  const y = cy + Math.sin(angle) * radius * 1.5;
  const size = radius * between(random, 0.08, 0.17);
  disc(canvas, x, y, size, shade(palette.far, 0.35), 1);
  disc(canvas, x - size * 0.12, y - size * 0.12, size * 0.86, mix(palette.far, palette.light, 0.7), 0.9, size * 0.3);
}

function eachPixel(
  canvas: Canvas,
  cx: number,
  cy: number,
  reach: number,
  f: (x: number, y: number, i: number) => void,
): void {
  const x0 = Math.max(0, Math.floor(cx - reach));
  const x1 = Math.min(canvas.width, Math.ceil(cx + reach));
  const y1 = Math.min(canvas.height, Math.ceil(cy + reach));
  for (let y = Math.max(0, Math.floor(cy - reach)); y < y1; y++) {
    for (let x = x0; x < x1; x++) f(x, y, (y * canvas.width + x) * 3);
  }
}
