/** Hair: the part behind the face, and the part in front of it. */
import { disc, mix, shade } from "./canvas.ts";
import { between } from "./noise.ts";
import { closed } from "./path.ts";
import type { Point } from "./path.ts";
import type { Sitter } from "./portrait.ts";

export type Style = "long" | "bob" | "bun" | "wave" | "short";

const BEHIND: Readonly<Record<Exclude<Style, "short">, readonly Point[]>> = {
  long: [
    [0, -1.42],
    [0.75, -1.22],
    [1.05, -0.5],
    [1.06, 0.4],
    [1.18, 1.4],
    [1.12, 2.5],
    [0.5, 2.7],
    [0, 1.6],
    [-0.5, 2.7],
    [-1.12, 2.5],
    [-1.18, 1.4],
    [-1.06, 0.4],
    [-1.05, -0.5],
    [-0.75, -1.22],
  ],
  bob: [
    [0, -1.4],
    [0.72, -1.22],
    [1.05, -0.55],
    [1.1, 0.3],
    [1.02, 1.0],
    [0.45, 1.16],
    [-0.45, 1.16],
    [-1.02, 1.0],
    [-1.1, 0.3],
    [-1.05, -0.55],
    [-0.72, -1.22],
  ],
  bun: [
    [0, -1.36],
    [0.7, -1.18],
    [0.97, -0.5],
    [0.86, 0.25],
    [0.5, 0.6],
    [-0.5, 0.6],
    [-0.86, 0.25],
    [-0.97, -0.5],
    [-0.7, -1.18],
  ],
  wave: [
    [0, -1.45],
    [0.8, -1.2],
    [1.12, -0.6],
    [0.98, 0.1],
    [1.25, 0.7],
    [1.08, 1.3],
    [1.38, 1.9],
    [0.9, 2.35],
    [0, 1.7],
    [-0.9, 2.35],
    [-1.38, 1.9],
    [-1.08, 1.3],
    [-1.25, 0.7],
    [-0.98, 0.1],
    [-1.12, -0.6],
    [-0.8, -1.2],
  ],
};

export function paintHairBehind({ scene, hair, fill, at, head }: Sitter, style: Style): void {
  if (style === "short") return;
  if (style === "bun") {
    const [x, y] = at(0.05, -1.62);
    disc(scene.canvas, x, y, head * 0.48, shade(hair, 0.9), 1);
    disc(
      scene.canvas,
      x - head * 0.1,
      y - head * 0.12,
      head * 0.3,
      mix(hair, scene.palette.light, 0.22),
      0.6,
      head * 0.25,
    );
  }
  fill(closed(BEHIND[style], 8), { top: shade(hair, 0.95), bottom: shade(hair, 0.6) });
}

export function paintHairBefore({ scene, hair, fill }: Sitter, style: Style): void {
  const { palette, random } = scene;
  const sheen = mix(hair, palette.light, 0.35);
  if (style === "short") {
    fill(
      closed(
        [
          [-0.84, -0.1],
          [-0.92, -0.75],
          [-0.6, -1.3],
          [0.1, -1.46],
          [0.7, -1.25],
          [0.94, -0.7],
          [0.84, -0.1],
          [0.72, -0.5],
          [0.5, -0.78],
          [0.0, -0.72],
          [-0.45, -0.86],
          [-0.7, -0.52],
        ],
        8,
      ),
      { top: mix(hair, sheen, 0.3), bottom: shade(hair, 0.85) },
    );
    fill(
      closed(
        [
          [-0.5, -1.2],
          [0.1, -1.38],
          [0.5, -1.2],
          [0.0, -1.16],
        ],
        8,
      ),
      { top: sheen, alpha: 0.5 },
    );
    return;
  }
  const part = between(random, -0.35, 0.15);
  fill(
    closed(
      [
        [part, -1.18],
        [part - 0.3, -0.95],
        [-0.66, -0.45],
        [-0.8, 0.2],
        [-0.96, 0.3],
        [-1.02, -0.5],
        [-0.72, -1.2],
        [part, -1.42],
      ],
      8,
    ),
    { top: mix(hair, sheen, 0.35), bottom: hair },
  );
  fill(
    closed(
      [
        [part - 0.03, -1.2],
        [part + 0.45, -0.86],
        [0.7, -0.4],
        [0.8, 0.25],
        [0.98, 0.3],
        [1.03, -0.5],
        [0.74, -1.2],
        [part, -1.42],
      ],
      8,
    ),
    { top: hair, bottom: shade(hair, 0.8) },
  );
  fill(
    closed(
      [
        [part - 0.12, -1.28],
        [-0.5, -1.05],
        [-0.82, -0.5],
        [-0.9, -0.1],
        [-0.78, -0.5],
        [-0.42, -0.98],
      ],
      8,
    ),
    { top: sheen, alpha: 0.45 },
  );
}
