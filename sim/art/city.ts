/** A skyline in haze: layers of towers, lit windows, streets as light. */
import { blend, glow, mix, shade } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { between, noiseFrom } from "./noise.ts";
import type { Random } from "./noise.ts";
import { fillPath, stroke } from "./path.ts";
import { paintMirror } from "./ridge.ts";
import type { Scene } from "./scene.ts";
import { paintSky } from "./sky.ts";

const LAYERS = 5;

export function paintCity(scene: Scene): void {
  const { canvas, palette, random } = scene;
  const { width, height, unit } = canvas;
  const quay = height * between(random, 0.76, 0.84);
  paintSky(scene, quay, between(random, 0.2, 0.7));
  for (let k = 0; k < LAYERS; k++) {
    const t = k / (LAYERS - 1);
    const body = mix(mix(palette.far, palette.sky[2], 0.45 * (1 - t)), palette.near, t ** 0.9);
    let x = -unit * 0.05 * random();
    while (x < width) {
      const wide = unit * between(random, 0.035, 0.085) * (0.75 + 0.6 * t);
      const middle = 1 - Math.abs((x + wide / 2) / width - 0.5) * 0.9;
      const tall = unit * between(random, 0.16, 0.52) * middle * (1 - 0.42 * t);
      paintTower(scene, { x, top: quay - tall, wide, bottom: quay }, body, t);
      x += wide * between(random, 0.85, 1.35);
    }
    glow(canvas, width * between(random, 0.3, 0.7), quay, unit * 0.5, palette.glow, 0.16 * (1 - t));
  }
  paintMirror(canvas, noiseFrom(random), quay, mix(palette.near, palette.sky[0], 0.4), 0.38);
}

interface Tower {
  readonly x: number;
  readonly top: number;
  readonly wide: number;
  readonly bottom: number;
}

function paintTower(scene: Scene, tower: Tower, body: Rgb, t: number): void {
  const { canvas, palette, random } = scene;
  const { x, top, wide, bottom } = tower;
  const foot = mix(body, palette.sky[3], 0.45 * (1 - t));
  box(canvas, x, top, x + wide, bottom, body, foot);
  box(canvas, x + wide * 0.72, top, x + wide, bottom, shade(body, 0.82), shade(foot, 0.9));
  const roof = random();
  if (roof < 0.25) box(canvas, x + wide * 0.2, top - wide * 0.35, x + wide * 0.75, top, body, body);
  else if (roof < 0.42)
    fillPath(
      canvas,
      [
        [x, top],
        [x + wide * 0.5, top - wide * 0.9],
        [x + wide, top],
      ],
      { top: body },
    );
  else if (roof < 0.6)
    stroke(
      canvas,
      [
        [x + wide / 2, top],
        [x + wide / 2, top - wide * 1.1],
      ],
      wide * 0.07,
      wide * 0.02,
      { top: body },
    );
  else if (roof < 0.7)
    fillPath(
      canvas,
      [
        [x, top],
        [x + wide, top - wide * 0.5],
        [x + wide, top],
      ],
      { top: body },
    );
  paintWindows(scene, tower, t, random);
}

function paintWindows(scene: Scene, tower: Tower, t: number, random: Random): void {
  const { canvas, palette, detail } = scene;
  const pitch = canvas.unit * (0.0085 + 0.004 * t);
  const cols = Math.floor((tower.wide * 0.9) / pitch);
  const rows = Math.min(90, Math.floor((tower.bottom - tower.top) / (pitch * 1.35)) - 1);
  const lit = (palette.night ? 0.42 : 0.2) * (0.4 + 0.6 * detail) * between(random, 0.4, 1.3);
  const lamp = random() < 0.75 ? mix(palette.light, palette.accents[0], 0.35) : (palette.accents[1] ?? palette.glow);
  const inset = (tower.wide - cols * pitch) / 2;
  for (let r = 0; r < rows; r++) {
    const row = random() < 0.08;
    for (let c = 0; c < cols; c++) {
      if (!row && random() > lit) continue;
      const x = tower.x + inset + c * pitch + pitch * 0.2;
      const y = tower.top + pitch * (0.9 + r * 1.35);
      const alpha = (0.3 + 0.65 * t) * between(random, 0.45, 1);
      box(canvas, x, y, x + pitch * 0.55, y + pitch * 0.75, lamp, lamp, alpha);
    }
  }
}

/** An upright box with exact edges: cheaper than a path, and a city has thousands. */
function box(canvas: Canvas, x0: number, y0: number, x1: number, y1: number, top: Rgb, bottom: Rgb, alpha = 1): void {
  const { width, height, data } = canvas;
  const yTo = Math.min(height, Math.ceil(y1));
  const xTo = Math.min(width, Math.ceil(x1));
  for (let y = Math.max(0, Math.floor(y0)); y < yTo; y++) {
    const colour = mix(top, bottom, (y - y0) / (y1 - y0));
    const down = Math.min(y + 1, y1) - Math.max(y, y0);
    for (let x = Math.max(0, Math.floor(x0)); x < xTo; x++) {
      const cover = (Math.min(x + 1, x1) - Math.max(x, x0)) * down;
      if (cover > 0) blend(data, (y * width + x) * 3, colour, cover * alpha);
    }
  }
}
