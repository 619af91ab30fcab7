/**
 * How long a GPU takes: linear in steps and pixels, or in the length of the sound. It can be scaled, jittered, or
 * replaced by a fixed mean. Pure.
 */
import { z } from "zod";

const PICTURE_BASE_MS = 100;
/** Eight steps at 1024 x 1024 take this long beyond the base. */
const PICTURE_MS = 1_100;
const PICTURE_WORK = 8 * 1024 * 1024;
const SPEECH_BASE_MS = 200;
/** A whole sound is made faster than it plays; a stream only slightly faster, so that a player never runs dry. */
const SPEECH_PACE = 0.3;
const STREAM_PACE = 0.9;

export const serviceSchema = z.strictObject({
  /** Factor on all service times; 0 leaves only the time of the drawing itself. */
  speed: z.number().min(0).max(1_000),
  /** 0.3 spreads service times uniformly over +-30 %, by a hash of the body. */
  jitter: z.number().min(0).max(1),
  /** A fixed mean that replaces both the estimate and `speed`. */
  service_ms: z.number().min(0).max(3_600_000).nullable(),
  /** Whether a run continues after its caller has hung up. */
  ghost: z.boolean(),
  /** Milliseconds of sound in one streamed chunk. */
  chunk_ms: z.number().min(1).max(60_000),
  /** A fixed length for every sound, whatever its text. */
  speech_s: z.number().min(0.1).max(3_600).nullable(),
  /** Memory of an idle card, as a ratio. */
  memory_idle: z.number().min(0).max(0.98),
});
export type Service = z.output<typeof serviceSchema>;

export const SERVICE_DEFAULTS: Service = {
  speed: 1,
  jitter: 0,
  service_ms: null,
  ghost: true,
  chunk_ms: 200,
  speech_s: null,
  memory_idle: 0.31,
};

/** What else affects one request's service time: the hash of its body (0 to 1), and a fault's factor. */
export interface Load {
  readonly dice: number;
  readonly slow: number;
}

export function pictureMs(service: Service, steps: number, pixels: number, load: Load): number {
  return scaled(service, PICTURE_BASE_MS + (PICTURE_MS * steps * pixels) / PICTURE_WORK, load);
}

export function speechMs(service: Service, soundMs: number, stream: boolean, load: Load): number {
  return scaled(service, SPEECH_BASE_MS + soundMs * (stream ? STREAM_PACE : SPEECH_PACE), load);
}

function scaled(service: Service, estimateMs: number, load: Load): number {
  const mean = service.service_ms ?? estimateMs * service.speed;
  return mean * load.slow * (1 + service.jitter * (2 * load.dice - 1));
}

/** When chunk `i` of `count` is ready: the first early, the last at the end, the others evenly spaced. */
export function chunkDueMs(totalMs: number, i: number, count: number): number {
  const first = Math.min(SPEECH_BASE_MS, totalMs / count);
  return count === 1 ? totalMs : first + ((totalMs - first) * i) / (count - 1);
}
