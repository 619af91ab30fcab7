/** Tree trunks in fog, in layers, with shafts of light between them. */
import { disc, glow, gradient, lighten, mix, shade } from "./canvas.ts";
import type { Rgb } from "./canvas.ts";
import { between, fbm, noiseFrom } from "./noise.ts";
import type { Noise } from "./noise.ts";
import { fillPath, open, stroke } from "./path.ts";
import type { Point } from "./path.ts";
import { paintRidge, skyline } from "./ridge.ts";
import type { Scene } from "./scene.ts";

const LAYERS = 5;

export function paintForest(scene: Scene): void {
  const { canvas, palette, random } = scene;
  const { width, height, unit } = canvas;
  const ground = height * between(random, 0.72, 0.8);
  gradient(canvas, [palette.sky[1], palette.sky[2], palette.sky[3], palette.sky[2]], 0, height);
  const light: Point = [width * between(random, 0.3, 0.7), height * between(random, 0.2, 0.38)];
  glow(canvas, light[0], light[1], unit * 0.85, palette.glow, 0.9);
  glow(canvas, light[0], light[1], unit * 0.25, palette.light, 0.5);
  for (let k = 0; k < LAYERS; k++) {
    const t = k / (LAYERS - 1);
    const noise = noiseFrom(random);
    const body = mix(mix(palette.sky[2], palette.far, 0.35 + 0.4 * t), palette.near, t ** 1.5);
    const line = ground + (height - ground) * (t * 0.9 - 0.15);
    const floor = skyline(canvas, noise, line, unit * (0.03 + 0.03 * t), 3, 0.2, 4);
    plantTrunks(scene, noise, floor, t, body);
    paintFerns(scene, noise, floor, t);
    paintRidge(canvas, noise, floor, height, {
      crest: body,
      foot: shade(body, 0.7),
      depth: unit * 0.2,
      relief: 0.15,
      lean: 1,
    });
    if (k === LAYERS - 3) paintShafts(scene, light, noise);
    if (k < LAYERS - 1) glow(canvas, width / 2, line, unit * 0.6, palette.sky[3], 0.16 * (1 - t));
  }
  paintMotes(scene, light);
}

function plantTrunks(scene: Scene, noise: Noise, floor: Float32Array, t: number, body: Rgb): void {
  const { canvas, random } = scene;
  const { width, unit } = canvas;
  const count = Math.max(2, Math.round((width / unit) * (13 - 9.5 * t)));
  for (let k = 0; k < count; k++) {
    const x = width * ((k + between(random, 0.05, 0.95)) / count);
    const girth = unit * (0.008 + 0.05 * t ** 1.7) * between(random, 0.65, 1.3);
    const foot = floor[Math.min(width - 1, Math.max(0, Math.floor(x)))]! + girth * 0.4;
    const lean = between(random, -0.05, 0.05) * unit;
    const bend = between(random, -0.02, 0.02) * unit;
    const line: Point[] = [
      [x - girth * 0.1, foot],
      [x + bend * 0.4, foot * 0.7],
      [x + lean * 0.6 + bend, foot * 0.35],
      [x + lean, -girth],
    ];
    const colour = shade(body, between(random, 0.85, 1.1));
    stroke(canvas, open(line), girth, girth * 0.55, {
      top: mix(colour, scene.palette.sky[2], 0.2 * (1 - t)),
      bottom: shade(colour, 0.8),
    });
    fillPath(
      canvas,
      [
        [x - girth * 0.95, foot + girth * 0.2],
        [x - girth * 0.42, foot - girth * 0.9],
        [x + girth * 0.42, foot - girth * 0.9],
        [x + girth * 0.95, foot + girth * 0.2],
      ],
      { top: colour, bottom: shade(colour, 0.85) },
    );
    growBranches(scene, line, girth, colour);
    growLeaves(scene, noise, line, girth, colour, t);
  }
}

function growBranches(scene: Scene, trunk: readonly Point[], girth: number, colour: Rgb): void {
  const { canvas, random, detail } = scene;
  const count = Math.round(between(random, 3, 7) * (0.5 + 0.5 * detail));
  for (let k = 0; k < count; k++) {
    const at = between(random, 0.45, 1);
    const y = trunk[0]![1] * (1 - at);
    const x = trunk[1]![0] + (trunk[3]![0] - trunk[1]![0]) * at;
    const side = random() < 0.5 ? -1 : 1;
    const reach = girth * between(random, 2, 5) * side;
    stroke(
      canvas,
      open(
        [
          [x, y],
          [x + reach * 0.5, y - Math.abs(reach) * 0.25],
          [x + reach, y - Math.abs(reach) * between(random, 0.1, 0.7)],
        ],
        5,
      ),
      girth * 0.22,
      girth * 0.05,
      { top: colour },
    );
  }
}

/** Leaves hang in clumps from the upper edge; distant clumps are many and small. */
function growLeaves(scene: Scene, noise: Noise, trunk: readonly Point[], girth: number, colour: Rgb, t: number): void {
  const { canvas, random, palette, detail } = scene;
  const count = Math.round((6 + 18 * t) * (0.4 + 0.6 * detail));
  const spread = canvas.unit * (0.05 + 0.14 * t);
  for (let k = 0; k < count; k++) {
    const x = trunk[3]![0] + between(random, -1, 1) * spread;
    const y = canvas.height * 0.3 * random() ** 2.2 * (1 - 0.3 * t) + fbm(noise, x / canvas.unit, k, 2) * girth;
    const size = canvas.unit * (0.008 + 0.018 * t) * between(random, 0.6, 1.4);
    const leaf = random() < 0.12 ? mix(colour, palette.accents[0], 0.45) : mix(colour, palette.far, random() * 0.25);
    disc(canvas, x, y, size, leaf, 0.75, size * 0.5);
  }
}

function paintFerns(scene: Scene, noise: Noise, floor: Float32Array, t: number): void {
  const { canvas, random } = scene;
  const blades = Math.round((canvas.width / canvas.unit) * 90);
  const base = Float32Array.from(floor);
  for (let k = 0; k < blades; k++) {
    const x0 = random() * canvas.width;
    const tall = canvas.unit * (0.01 + 0.035 * t) * random() * (1 + noise(x0 * 0.01, t * 9));
    const half = Math.max(1, tall * 0.12);
    for (let x = Math.max(0, Math.ceil(x0 - half)); x < Math.min(canvas.width, x0 + half); x++) {
      floor[x] = Math.min(floor[x]!, base[x]! - tall * (1 - Math.abs(x - x0) / half));
    }
  }
}

const BEAMS = 2048;
const WIDEST_BEAM = 0.9;

/** Slanting beams: brightness depends on the angle from the light, through a lookup table. */
function paintShafts(scene: Scene, light: Point, noise: Noise): void {
  const { canvas, palette } = scene;
  const { width, height, data, unit } = canvas;
  const beams = Float32Array.from({ length: BEAMS + 1 }, (_, k) => {
    const angle = ((k / BEAMS) * 2 - 1) * WIDEST_BEAM;
    return Math.max(0, noise(angle * 9, 2.5) + 0.4 * noise(angle * 23, 7.5) - 0.12) * (1 - Math.abs(angle));
  });
  for (let y = 0; y < height; y++) {
    const dy = y - light[1] + unit * 0.7;
    const fade = Math.min(1, dy / (unit * 0.8)) * Math.max(0, 1.25 - dy / (unit * 1.35)) * 0.75;
    if (dy <= 0 || fade <= 0) continue;
    for (let x = 0; x < width; x++) {
      const angle = (x - light[0]) / dy;
      if (Math.abs(angle) > WIDEST_BEAM) continue;
      const beam = beams[Math.floor((angle / WIDEST_BEAM + 1) * (BEAMS / 2))]! * fade;
      if (beam > 0) lighten(data, (y * width + x) * 3, palette.light, Math.min(0.6, beam));
    }
  }
}

function paintMotes(scene: Scene, light: Point): void {
  const { canvas, palette, random } = scene;
  for (let k = 0; k < 46; k++) {
    const x = light[0] + between(random, -0.5, 0.5) * canvas.unit;
    const y = light[1] + between(random, -0.05, 0.55) * canvas.unit;
    const radius = canvas.unit * (0.0008 + 0.0025 * random() ** 3);
    glow(canvas, x, y, radius * 7, palette.light, 0.6);
    disc(canvas, x, y, radius, palette.light, 0.7, radius);
  }
}
