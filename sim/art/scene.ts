/** What every scene painter is given. */
import type { Canvas } from "./canvas.ts";
import type { Random } from "./noise.ts";
import type { Palette } from "./palette.ts";

export interface Scene {
  readonly canvas: Canvas;
  readonly palette: Palette;
  readonly random: Random;
  /** 0 to 1: how far the steps went; more of it means finer things. */
  readonly detail: number;
  readonly prompt: string;
}
