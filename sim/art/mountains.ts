/** Distant mountains, firs in front, sometimes a lake that mirrors them. */
import { mix, shade } from "./canvas.ts";
import { between, noiseFrom } from "./noise.ts";
import { paintMirror, paintRidge, plantFirs, skyline } from "./ridge.ts";
import type { Scene } from "./scene.ts";
import { paintBirds, paintSky } from "./sky.ts";

const LAYERS = 6;

export function paintMountains(scene: Scene): void {
  const { canvas, palette, random, prompt, detail } = scene;
  const { height, unit } = canvas;
  const lake = /lake|reflection|water|calm|湖|水/i.test(prompt) || random() < 0.45;
  const shore = lake ? height * between(random, 0.64, 0.74) : height;
  const horizon = shore * between(random, 0.62, 0.72);
  const sun = paintSky(scene, horizon + unit * 0.12, between(random, 0.35, 0.95));
  const snowy = /snow|winter|alps|ice|雪|冬/i.test(prompt) || random() < 0.4;
  for (let k = 0; k < LAYERS; k++) {
    const t = k / (LAYERS - 1);
    const noise = noiseFrom(random);
    const near = k >= LAYERS - 2;
    const base = horizon + unit * 0.03 + (shore - horizon) * t ** 1.4 * (lake ? 0.82 : 0.86);
    const rise = unit * (near ? between(random, 0.07, 0.12) : between(random, 0.24, 0.42) * (1 - t * 0.55));
    const crest = skyline(
      canvas,
      noise,
      base,
      rise,
      near ? 1.6 : 2.1 - t * 0.5,
      near ? 0.1 : 0.95 - t * 0.4,
      4 + Math.round(3 * detail),
    );
    if (near) plantFirs(canvas, random, crest, unit * (0.05 + 0.09 * t ** 6), 3.2);
    const body = mix(mix(palette.far, palette.sky[2], 0.35), palette.near, t ** 1.3);
    paintRidge(canvas, noise, crest, shore, {
      crest: body,
      foot: near ? shade(body, 0.75) : mix(body, palette.sky[3], 0.62 * (1 - t)),
      depth: unit * (0.3 - 0.1 * t),
      relief: near ? 0.2 : 0.55 - 0.2 * t,
      lean: sun.x < canvas.width / 2 ? -1 : 1,
      ...(snowy && k < 3
        ? {
            snow: {
              colour: mix([250, 251, 255], palette.sky[3], 0.15 + 0.2 * (1 - t)),
              line: base - rise * 0.42,
            },
          }
        : {}),
    });
  }
  if (lake) paintMirror(canvas, noiseFrom(random), shore, mix(palette.near, palette.sky[1], 0.35), 0.42);
  paintBirds(scene, sun, shade(palette.near, 0.8));
}
