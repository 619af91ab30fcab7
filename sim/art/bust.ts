/** Neck, shoulders and clothes. */
import { mix, shade } from "./canvas.ts";
import { between, pick } from "./noise.ts";
import { closed } from "./path.ts";
import type { Point } from "./path.ts";
import type { Sitter } from "./portrait.ts";
import type { Scene } from "./scene.ts";

export function paintBust({ scene, skin, fill }: Sitter): void {
  const { palette, random } = scene;
  const cloth = mix(pick(random, palette.accents), palette.near, 0.25);
  const deep = shade(skin, 0.72);
  fill(
    closed(
      [
        [-0.36, 0.55],
        [0.36, 0.55],
        [0.37, 1.35],
        [0.62, 1.72],
        [1.0, 2.1],
        [0, 2.6],
        [-1.0, 2.1],
        [-0.62, 1.72],
        [-0.37, 1.35],
      ],
      6,
    ),
    { top: deep, bottom: skin },
  );
  fill(
    closed(
      [
        [-0.3, 0.7],
        [0.36, 0.8],
        [0.36, 1.25],
        [0.2, 1.5],
        [-0.12, 1.22],
      ],
      6,
    ),
    { top: mix(deep, palette.near, 0.3), alpha: 0.55 },
  );
  const neckline = between(random, 1.75, 2.15);
  const shoulders: Point[] = [
    [-0.58, 1.62],
    [0, neckline],
    [0.58, 1.62],
    [1.25, 1.92],
    [1.8, 2.3],
    [2.15, 3.4],
    [2.3, 7],
    [-2.3, 7],
    [-2.15, 3.4],
    [-1.8, 2.3],
    [-1.25, 1.92],
  ];
  fill(closed(shoulders, 8), { top: cloth, bottom: mix(cloth, palette.near, 0.6) });
  fill(
    closed(
      [
        [-1.2, 1.94],
        [-1.78, 2.32],
        [-2.12, 3.4],
        [-2.26, 7],
        [-1.75, 7],
        [-1.5, 3.4],
        [-1.35, 2.5],
      ],
      8,
    ),
    { top: mix(cloth, palette.light, 0.3), bottom: cloth, alpha: 0.3 },
  );
  fill(
    closed(
      [
        [0.5, 2.3],
        [1.25, 1.96],
        [1.8, 2.34],
        [2.13, 3.4],
        [2.28, 7],
        [0.9, 7],
        [0.6, 4],
      ],
      8,
    ),
    { top: palette.near, alpha: 0.12 },
  );
  if (random() < 0.7) paintBeads(scene, fill, neckline);
}

function paintBeads(scene: Scene, fill: Sitter["fill"], neckline: number): void {
  const gold = mix(scene.palette.accents[0], [255, 214, 130], 0.5);
  for (let k = -5; k <= 5; k++) {
    const x = k * 0.08;
    const y = neckline - 0.33 - 0.26 * (k / 5) ** 2;
    fill(
      closed(
        [
          [x - 0.038, y],
          [x, y - 0.04],
          [x + 0.038, y],
          [x, y + 0.04],
        ],
        4,
      ),
      { top: gold, bottom: shade(gold, 0.75) },
    );
  }
}
