/**
 * Draws a picture from prompt, seed, size and steps. Pure and deterministic. Words in the prompt choose the scene and
 * the palette; otherwise the prompt's hash chooses.
 */
import type { Pixels } from "./png.ts";
import { blend, newCanvas, vignette } from "./art/canvas.ts";
import { hash, pick, randomFrom } from "./art/noise.ts";
import type { Random } from "./art/noise.ts";
import { paletteFor } from "./art/palette.ts";
import type { Scene } from "./art/scene.ts";
import { paintGarden } from "./art/bloom.ts";
import { paintCity } from "./art/city.ts";
import { paintDesert } from "./art/desert.ts";
import { paintFlames, paintMarble } from "./art/flow.ts";
import { paintForest } from "./art/forest.ts";
import { paintMountains } from "./art/mountains.ts";
import { paintPortrait } from "./art/portrait.ts";
import { paintSpace } from "./art/space.ts";
import { paintSea } from "./art/sea.ts";

export interface Sketch {
  readonly prompt: string;
  readonly seed: number;
  readonly variation?: { readonly seed: number; readonly strength: number };
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  /** An image to start from, and how much of it stays visible. */
  readonly under?: { readonly picture: Pixels; readonly share: number };
  /** 0 to 1: how much noise remains, for a preview of an unfinished picture. */
  readonly veil?: number;
}

type Painter = (scene: Scene) => void;

const PORTRAIT = /portrait|face|woman|\bman\b|girl|\bboy\b|lady|person|headshot|selfie|人像|肖像|女|男/i;

/** The first scene with a word in the prompt is painted. */
const SCENES: readonly [readonly [RegExp, Painter], ...(readonly [RegExp, Painter])[]] = [
  [/sea|ocean|beach|wave|coast|island|boat|ship|sail|harbou?r|海|浪|船/i, paintSea],
  [/forest|tree|wood|jungle|bamboo|森林|树|竹/i, paintForest],
  [/city|town|street|skyline|tokyo|paris|york|london|building|neon|cyber|城市|霓虹|街/i, paintCity],
  [/space|galaxy|planet|nebula|cosmos|universe|astronaut|mars|saturn|宇宙|星/i, paintSpace],
  [/fire|flame|burning|inferno|ember|火/i, paintFlames],
  [/desert|dune|sahara|camel|canyon|沙漠|沙丘/i, paintDesert],
  [/flower|garden|blossom|rose|tulip|daisy|meadow|spring|bouquet|花|春/i, paintGarden],
  [/abstract|marble|pattern|texture|fluid|dream|music|抽象|梦/i, paintMarble],
  [/mountain|alps|valley|lake|hill|landscape|village|snow|winter|sunset|sunrise|山|谷|湖|雪/i, paintMountains],
];

/** More steps than this add no detail. */
const STEPS_TO_FULL_DETAIL = 8;
const VIGNETTE = 0.6;

export function drawPicture(sketch: Sketch): Pixels {
  const canvas = newCanvas(sketch.width, sketch.height);
  const ofPrompt = randomFrom(hash(sketch.prompt));
  const palette = paletteFor(sketch.prompt, ofPrompt);
  const { prompt, seed, variation } = sketch;
  const varied = variation === undefined ? [] : [variation.seed, variation.strength];
  const random = randomFrom(hash([prompt, seed, ...varied].join("\n")));
  const detail = Math.min(1, sketch.steps / STEPS_TO_FULL_DETAIL);
  painterFor(sketch.prompt, ofPrompt)({ canvas, palette, random, detail, prompt: sketch.prompt });
  if (sketch.under) blendUnder(canvas, sketch.under.picture, sketch.under.share);
  vignette(canvas, VIGNETTE);
  if (sketch.veil) paintVeil(canvas, random, sketch.veil);
  return canvas;
}

function painterFor(prompt: string, random: Random): Painter {
  const chance = pick(random, SCENES)[1];
  if (PORTRAIT.test(prompt)) return paintPortrait;
  return SCENES.find(([words]) => words.test(prompt))?.[1] ?? chance;
}

/** Blends in an earlier picture, stretched to the canvas. */
function blendUnder(canvas: Pixels, under: Pixels, share: number): void {
  for (let y = 0; y < canvas.height; y++) {
    const row = Math.min(under.height - 1, Math.floor(((y + 0.5) * under.height) / canvas.height)) * under.width;
    for (let x = 0; x < canvas.width; x++) {
      const s = (row + Math.min(under.width - 1, Math.floor(((x + 0.5) * under.width) / canvas.width))) * 3;
      blend(canvas.data, (y * canvas.width + x) * 3, [under.data[s]!, under.data[s + 1]!, under.data[s + 2]!], share);
    }
  }
}

/** Adds the noise of an unfinished picture. */
function paintVeil(canvas: Pixels, random: Random, veil: number): void {
  for (let i = 0; i < canvas.data.length; i++) canvas.data[i] = canvas.data[i]! * (1 - veil) + random() * 255 * veil;
}
