/**
 * A portrait in flat shapes: a bust in front of a large disc, lit from one side. Lengths are in heads: half a face is
 * about 0.78 wide, and the chin is at 1.05.
 */
import { disc, glow, gradient, mix } from "./canvas.ts";
import type { Rgb } from "./canvas.ts";
import { paintBlooms } from "./bloom.ts";
import { paintBust } from "./bust.ts";
import { paintFace } from "./face.ts";
import { paintHairBefore, paintHairBehind } from "./hair.ts";
import { between, pick } from "./noise.ts";
import { fillPath } from "./path.ts";
import type { Paint, Point } from "./path.ts";
import type { Scene } from "./scene.ts";

const SKIN: readonly [Rgb, ...Rgb[]] = [
  [255, 222, 196],
  [241, 194, 158],
  [214, 158, 116],
  [171, 112, 77],
  [122, 76, 54],
  [250, 210, 180],
];
const HAIR: readonly [Rgb, ...Rgb[]] = [
  [38, 26, 34],
  [66, 38, 32],
  [118, 66, 38],
  [198, 140, 74],
  [92, 34, 44],
  [58, 62, 84],
];
const GREY: Rgb = [206, 202, 204];

/** The coordinate frame: converts heads to pixels, mirrored when the light comes from the right. */
export interface Sitter {
  readonly scene: Scene;
  readonly skin: Rgb;
  readonly hair: Rgb;
  /** -1 or 1: the side that the light comes from. */
  readonly side: number;
  readonly fill: (points: readonly Point[], paint: Paint) => void;
  readonly at: (x: number, y: number) => Point;
  readonly head: number;
}

export function paintPortrait(scene: Scene): void {
  const { canvas, palette, random, prompt } = scene;
  const { width, height, unit } = canvas;
  const head = Math.min(unit * between(random, 0.165, 0.19), width * 0.22);
  const cx = width * between(random, 0.46, 0.54);
  const cy = height * 0.44;
  const side = random() < 0.5 ? -1 : 1;
  const turn = between(random, -0.06, 0.06);
  const at = (x: number, y: number): Point => [
    cx + (x * side * Math.cos(turn) - y * Math.sin(turn)) * head,
    cy + (y * Math.cos(turn) + x * side * Math.sin(turn)) * head,
  ];
  const fill = (points: readonly Point[], paint: Paint): void =>
    fillPath(
      canvas,
      points.map(([x, y]) => at(x, y)),
      paint,
    );
  const skin = mix(pick(random, SKIN), palette.glow, 0.12);
  const tone = pick(random, HAIR);
  const hair = mix(/\bold\b|elder|grand|wizard|老/i.test(prompt) ? GREY : tone, palette.near, 0.2);
  const sitter: Sitter = { scene, skin, hair, side, fill, at, head };
  paintGround(scene, cx, cy, head);
  const man = /\bman\b|\bboy\b|gentleman|male\b|father|king|男/i.test(prompt);
  const style = man ? "short" : pick(random, ["long", "bob", "bun", "wave"] as const);
  paintHairBehind(sitter, style);
  paintBust(sitter);
  paintFace(sitter, man);
  paintHairBefore(sitter, style);
  if (!man) paintBlooms(scene, at(0.62, -0.66), head * 0.3, 2 + Math.floor(random() * 3));
}

function paintGround(scene: Scene, cx: number, cy: number, head: number): void {
  const { canvas, palette, random } = scene;
  const { width, height, unit } = canvas;
  gradient(canvas, [palette.sky[0], palette.sky[1], palette.sky[2]], 0, height);
  const ring = head * between(random, 2.1, 2.6);
  const dy = cy - head * between(random, 0.1, 0.5);
  glow(canvas, cx, dy, ring * 2, palette.glow, 0.55);
  disc(canvas, cx, dy, ring, palette.sky[3], 1, Math.max(1, unit * 0.0015));
  disc(canvas, cx, dy, ring * 0.9, mix(palette.sky[3], palette.glow, 0.35), 0.55, unit * 0.02);
  for (let k = 0; k < 7; k++) {
    const y = height * (0.72 + k * 0.045);
    const wave = Array.from({ length: 9 }, (_, i): Point => [
      (width * i) / 8,
      y + Math.sin(i * 1.3 + k * 1.9) * unit * 0.018,
    ]);
    fillPath(canvas, [...closedBelow(wave, height)], {
      top: mix(palette.sky[1], palette.near, 0.12 + k * 0.1),
      alpha: 0.55,
    });
  }
  for (let k = 0; k < 26; k++) {
    const radius = unit * (0.001 + 0.004 * random() ** 2);
    disc(canvas, random() * width, random() * height * 0.8, radius, palette.light, 0.5, radius);
  }
}

function closedBelow(line: readonly Point[], height: number): Point[] {
  const first = line[0]!;
  const last = line[line.length - 1]!;
  return [...line, [last[0], height + 1], [first[0], height + 1]];
}
