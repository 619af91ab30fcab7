/** What every scene painter receives. */
import type { Canvas } from "./canvas.ts";
import type { Random } from "./noise.ts";
import type { Palette } from "./palette.ts";

export interface Scene {
  readonly canvas: Canvas;
  readonly palette: Palette;
  readonly random: Random;
  /** 0 to 1, from the number of steps; higher means finer detail. */
  readonly detail: number;
  readonly prompt: string;
}
