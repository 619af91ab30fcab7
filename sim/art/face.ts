/** A face with lowered eyes: few shapes, with soft shadow on the side away from the light. */
import { disc, mix, shade } from "./canvas.ts";
import type { Rgb } from "./canvas.ts";
import { between } from "./noise.ts";
import { closed, open, stroke } from "./path.ts";
import type { Point } from "./path.ts";
import type { Sitter } from "./portrait.ts";

const OUTLINE: readonly Point[] = [
  [0, -1.08],
  [0.52, -0.94],
  [0.78, -0.4],
  [0.76, 0.15],
  [0.62, 0.62],
  [0.34, 0.94],
  [0, 1.06],
  [-0.34, 0.94],
  [-0.62, 0.62],
  [-0.76, 0.15],
  [-0.78, -0.4],
  [-0.52, -0.94],
];
const SHADOW: readonly Point[] = [
  [0.2, -1.06],
  [0.52, -0.94],
  [0.78, -0.4],
  [0.76, 0.15],
  [0.62, 0.62],
  [0.34, 0.94],
  [0.05, 1.06],
  [0.36, 0.72],
  [0.48, 0.3],
  [0.4, -0.1],
  [0.5, -0.5],
];

export function paintFace(sitter: Sitter, man: boolean): void {
  const { scene, skin, fill, at, head } = sitter;
  const warm = mix(skin, [226, 92, 84], 0.45);
  const ear = shade(skin, 0.86);
  for (const side of [-1, 1])
    fill(
      closed(
        [
          [side * 0.74, -0.12],
          [side * 0.9, -0.16],
          [side * 0.88, 0.2],
          [side * 0.74, 0.3],
        ],
        6,
      ),
      { top: ear },
    );
  fill(closed(OUTLINE, 8), {
    top: mix(skin, scene.palette.light, 0.12),
    bottom: shade(skin, 0.95),
  });
  fill(closed(SHADOW, 8), { top: mix(skin, scene.palette.near, 0.45), alpha: 0.38 });
  for (const side of [-1, 1]) {
    const [x, y] = at(side * 0.45, 0.36);
    disc(scene.canvas, x, y, head * 0.1, warm, 0.28, head * 0.3);
  }
  paintEyes(sitter, man);
  paintNose(sitter);
  paintLips(sitter, man ? mix(skin, [170, 84, 76], 0.4) : mix(warm, [196, 48, 66], 0.55));
  if (man && scene.random() < 0.5) paintBeard(sitter);
  if (!man) paintEarrings(sitter);
}

function paintEyes({ scene, skin, hair, at, head, fill }: Sitter, man: boolean): void {
  const ink = mix(hair, scene.palette.near, 0.5);
  const lift = between(scene.random, -0.03, 0.05);
  for (const side of [-1, 1]) {
    const x = side * 0.35;
    const brow: Point[] = [
      [x - side * 0.18, -0.27 + lift],
      [x + side * 0.02, -0.36 + lift],
      [x + side * 0.26, -0.25 + lift * 0.4],
    ];
    stroke(scene.canvas, open(brow.map(([a, b]) => at(a, b))), head * (man ? 0.085 : 0.055), head * 0.02, {
      top: ink,
      alpha: 0.9,
    });
    fill(
      closed(
        [
          [x - 0.2, -0.02],
          [x, -0.16],
          [x + 0.2, -0.02],
          [x, 0.09],
        ],
        8,
      ),
      { top: mix(skin, scene.palette.accents[0], 0.22), alpha: man ? 0.25 : 0.5 },
    );
    const lid: Point[] = [
      [x - side * 0.2, -0.01],
      [x - side * 0.08, 0.07],
      [x + side * 0.09, 0.075],
      [x + side * 0.22, -0.02],
    ];
    stroke(scene.canvas, open(lid.map(([a, b]) => at(a, b))), head * 0.022, head * 0.05, {
      top: ink,
    });
    if (man) continue;
    for (let k = 0; k < 5; k++) {
      const from = x + side * (0.02 + k * 0.045);
      const foot = 0.085 - k * 0.02;
      stroke(
        scene.canvas,
        [at(from, foot), at(from + side * (0.03 + k * 0.015), foot + 0.06 - k * 0.006)],
        head * 0.02,
        head * 0.006,
        { top: ink },
      );
    }
  }
}

function paintNose({ scene, skin, at, head, fill }: Sitter): void {
  const dark = mix(skin, scene.palette.near, 0.42);
  stroke(
    scene.canvas,
    open([at(0.1, -0.12), at(0.085, 0.12), at(0.13, 0.34), at(0.07, 0.42), at(-0.03, 0.43)]),
    head * 0.012,
    head * 0.035,
    { top: dark, alpha: 0.7 },
  );
  fill(
    closed(
      [
        [-0.02, -0.1],
        [0.02, -0.1],
        [0.03, 0.3],
        [-0.03, 0.32],
      ],
      6,
    ),
    { top: mix(skin, [255, 250, 240], 0.6), alpha: 0.35 },
  );
}

function paintLips({ fill, scene }: Sitter, colour: Rgb): void {
  fill(
    closed(
      [
        [-0.23, 0.665],
        [-0.08, 0.615],
        [0, 0.635],
        [0.08, 0.615],
        [0.23, 0.665],
        [0, 0.69],
      ],
      6,
    ),
    { top: shade(colour, 0.86) },
  );
  fill(
    closed(
      [
        [-0.21, 0.67],
        [0, 0.685],
        [0.21, 0.67],
        [0.1, 0.765],
        [-0.1, 0.765],
      ],
      6,
    ),
    { top: colour, bottom: mix(colour, scene.palette.light, 0.15) },
  );
  fill(
    closed(
      [
        [-0.09, 0.715],
        [0.01, 0.712],
        [0.0, 0.735],
        [-0.07, 0.738],
      ],
      5,
    ),
    { top: [255, 244, 238], alpha: 0.4 },
  );
}

function paintBeard({ fill, hair }: Sitter): void {
  fill(
    closed(
      [
        [-0.76, 0.12],
        [-0.6, 0.45],
        [-0.3, 0.56],
        [0, 0.52],
        [0.3, 0.56],
        [0.6, 0.45],
        [0.76, 0.12],
        [0.7, 0.6],
        [0.42, 1.04],
        [0, 1.2],
        [-0.42, 1.04],
        [-0.7, 0.6],
      ],
      8,
    ),
    { top: hair, bottom: shade(hair, 0.75), alpha: 0.92 },
  );
  fill(
    closed(
      [
        [-0.2, 0.67],
        [0, 0.7],
        [0.2, 0.67],
        [0.08, 0.76],
        [-0.08, 0.76],
      ],
      6,
    ),
    { top: [176, 92, 84] },
  );
}

function paintEarrings({ scene, at, head }: Sitter): void {
  const colour = mix(scene.palette.accents[0], [255, 222, 150], 0.35);
  for (const side of [-1, 1]) {
    const [x, y] = at(side * 0.83, 0.42);
    disc(scene.canvas, x, y, head * 0.075, colour, 1);
    disc(scene.canvas, x - head * 0.02, y - head * 0.025, head * 0.025, [255, 255, 250], 0.8, head * 0.03);
  }
}
