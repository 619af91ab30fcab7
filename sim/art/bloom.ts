/** Flowers: a single bloom, a small group, or a meadow in front of a blurred garden. */
import { disc, glow, gradient, mix, shade } from "./canvas.ts";
import type { Canvas, Rgb } from "./canvas.ts";
import { between, pick } from "./noise.ts";
import type { Random } from "./noise.ts";
import { closed, fillPath, open, stroke } from "./path.ts";
import type { Point } from "./path.ts";
import type { Scene } from "./scene.ts";

export function paintBlooms(scene: Scene, [x, y]: Point, size: number, count: number): void {
  const { canvas, palette, random } = scene;
  for (let k = 0; k < count + 2; k++)
    paintLeaf(canvas, [x, y], size * 1.5, random() * Math.PI * 2, mix([64, 132, 84], palette.near, 0.3));
  for (let k = 0; k < count; k++) {
    const angle = (k / count) * Math.PI * 2 + 0.6;
    const spread = count === 1 ? 0 : size * 0.75;
    paintBloom(
      canvas,
      random,
      [x + Math.cos(angle) * spread, y + Math.sin(angle) * spread],
      size * between(random, 0.7, 1.05),
      pick(random, palette.accents),
      palette.light,
    );
  }
}

export function paintGarden(scene: Scene): void {
  const { canvas, palette, random, detail } = scene;
  const { width, height, unit } = canvas;
  const leaf = mix(palette.far, [64, 132, 74], 0.7);
  gradient(
    canvas,
    [palette.sky[2], palette.sky[3], mix(palette.sky[2], leaf, 0.45), mix(palette.near, leaf, 0.45)],
    0,
    height,
  );
  glow(canvas, width * between(random, 0.2, 0.8), height * 0.12, unit * 0.8, palette.light, 0.7);
  for (let k = 0; k < 55; k++) {
    const depth = random();
    const radius = unit * between(random, 0.012, 0.05);
    disc(
      canvas,
      random() * width,
      height * between(random, 0.2, 0.95),
      radius,
      mix(pick(random, palette.accents), palette.sky[3], depth * 0.6),
      0.28,
      radius * 0.4,
    );
  }
  const stems = 9 + Math.round(10 * detail);
  for (let k = 0; k < stems; k++) {
    const t = k / stems;
    const size = unit * (0.035 + 0.075 * t ** 1.5) * between(random, 0.8, 1.15);
    const head: Point = [
      width * (0.06 + 0.88 * random()),
      height * (0.3 + 0.42 * t) + unit * between(random, -0.06, 0.06),
    ];
    const foot: Point = [head[0] + unit * between(random, -0.09, 0.09), height + size];
    const green = mix(mix(leaf, palette.sky[3], 0.45 * (1 - t)), palette.near, 0.3 * t);
    stroke(canvas, open([foot, [foot[0], (foot[1] + head[1]) / 2], head]), size * 0.13, size * 0.08, { top: green });
    for (let j = 0; j < 3; j++) {
      const y = head[1] + (height - head[1]) * between(random, 0.2, 0.8);
      paintLeaf(
        canvas,
        [(head[0] + foot[0]) / 2, y],
        size * 1.5,
        (j % 2 ? Math.PI : 0) + between(random, -0.7, 0.3),
        green,
      );
    }
    const colour = mix(pick(random, palette.accents), palette.sky[3], 0.35 * (1 - t));
    paintBloom(canvas, random, head, size, colour, palette.light);
  }
}

function paintBloom(canvas: Canvas, random: Random, [x, y]: Point, size: number, colour: Rgb, light: Rgb): void {
  const petals = 5 + Math.floor(random() * 5);
  const turn = random() * Math.PI;
  const plump = between(random, 0.75, 1.15);
  for (let ring = 0; ring < 2; ring++) {
    const length = size * (1 - 0.38 * ring);
    for (let k = 0; k < petals; k++) {
      const angle = turn + ((k + ring * 0.5) / petals) * Math.PI * 2;
      const half = (Math.PI / petals) * plump;
      const tone = shade(mix(colour, light, 0.12 + 0.3 * ring), 0.86 + 0.2 * Math.max(0, Math.cos(angle + 2.2)));
      const point = (r: number, turned: number): Point => [
        x + Math.cos(angle + turned) * r * length,
        y + Math.sin(angle + turned) * r * length * 0.92,
      ];
      fillPath(
        canvas,
        closed(
          [
            [x, y],
            point(0.6, -half),
            point(0.98, -half * 0.5),
            point(1.04, 0),
            point(0.98, half * 0.5),
            point(0.6, half),
          ],
          6,
        ),
        { top: tone, bottom: shade(tone, 0.86) },
      );
      stroke(canvas, [point(0.2, 0), point(0.8, 0)], size * 0.035, size * 0.01, {
        top: shade(tone, 0.75),
        alpha: 0.5,
      });
    }
  }
  disc(canvas, x, y, size * 0.2, mix([255, 200, 80], light, 0.25), 1, Math.max(1, size * 0.04));
  for (let k = 0; k < 12; k++) {
    const angle = k * 2.4;
    const r = size * 0.17 * Math.sqrt(k / 12);
    disc(canvas, x + Math.cos(angle) * r, y + Math.sin(angle) * r, size * 0.025, [150, 84, 40], 0.7);
  }
}

function paintLeaf(canvas: Canvas, [x, y]: Point, length: number, angle: number, colour: Rgb): void {
  const point = (along: number, across: number): Point => [
    x + (Math.cos(angle) * along - Math.sin(angle) * across) * length,
    y + (Math.sin(angle) * along + Math.cos(angle) * across) * length,
  ];
  fillPath(
    canvas,
    closed(
      [point(0, 0), point(0.35, -0.17), point(0.75, -0.12), point(1, 0.02), point(0.7, 0.13), point(0.3, 0.13)],
      6,
    ),
    { top: mix(colour, [255, 255, 220], 0.12), bottom: shade(colour, 0.8) },
  );
  stroke(canvas, [point(0.05, 0), point(0.9, 0.01)], length * 0.02, length * 0.005, {
    top: shade(colour, 0.7),
    alpha: 0.6,
  });
}
