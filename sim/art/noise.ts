/** Deterministic randomness: a text hash, a small generator, and smooth noise. Pure. */

export type Random = () => number;
export type Noise = (x: number, y: number) => number;

/** FNV-1a with a final mix, so that similar texts get very different hashes. */
export function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Random numbers in [0, 1), determined by the seed. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function between(random: Random, low: number, high: number): number {
  return low + (high - low) * random();
}

export function pick<T>(random: Random, from: readonly [T, ...T[]]): T {
  return from[Math.floor(random() * from.length)] ?? from[0];
}

const LATTICE = 256;

/** Gradient noise on a 256 x 256 lattice, about -1 to 1. */
export function noiseFrom(random: Random): Noise {
  const order = Uint8Array.from({ length: LATTICE }, (_, i) => i);
  for (let i = LATTICE - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  const gx = new Float32Array(LATTICE);
  const gy = new Float32Array(LATTICE);
  for (let i = 0; i < LATTICE; i++) {
    const angle = random() * Math.PI * 2;
    gx[i] = Math.cos(angle) * 1.4;
    gy[i] = Math.sin(angle) * 1.4;
  }
  return (x, y) => {
    const xi = Math.floor(x);
    const yi = Math.floor(y);
    const fx = x - xi;
    const fy = y - yi;
    const left = order[xi & 255]!;
    const right = order[(xi + 1) & 255]!;
    const a = order[(left + yi) & 255]!;
    const b = order[(right + yi) & 255]!;
    const c = order[(left + yi + 1) & 255]!;
    const d = order[(right + yi + 1) & 255]!;
    const u = fx * fx * fx * (fx * (fx * 6 - 15) + 10);
    const v = fy * fy * fy * (fy * (fy * 6 - 15) + 10);
    const top = gx[a]! * fx + gy[a]! * fy;
    const bottom = gx[c]! * fx + gy[c]! * (fy - 1);
    const upper = top + u * (gx[b]! * (fx - 1) + gy[b]! * fy - top);
    const lower = bottom + u * (gx[d]! * (fx - 1) + gy[d]! * (fy - 1) - bottom);
    return upper + v * (lower - upper);
  };
}

/** Sums octaves of a noise, each at twice the frequency and half the amplitude; about -1 to 1. */
export function fbm(noise: Noise, x: number, y: number, octaves: number): number {
  let sum = 0;
  let gain = 0.5;
  let px = x;
  let py = y;
  for (let i = 0; i < octaves; i++) {
    sum += gain * noise(px, py);
    px = px * 2 + 17.3;
    py = py * 2 + 9.1;
    gain *= 0.5;
  }
  return sum * 1.15;
}

/** Like `fbm`, but with sharp crests instead of gentle ones: 0 to about 1. */
export function crests(noise: Noise, x: number, y: number, octaves: number): number {
  let sum = 0;
  let gain = 0.55;
  let px = x;
  let py = y;
  for (let i = 0; i < octaves; i++) {
    const crest = 1 - Math.abs(noise(px, py));
    sum += gain * crest * crest;
    px = px * 2.07 + 31.7;
    py = py * 2.07 + 11.9;
    gain *= 0.47;
  }
  return sum;
}
