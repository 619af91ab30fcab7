/**
 * The demonstration: makes one picture and one sound through the front door like any caller, checks that the files are
 * valid, and stores them in STATE_DIR. The input is the same at every start, so a later start may get both from the
 * cache.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

const CALL_MS_MAX = 90_000;
const SIZE = 512;

export const PICTURE = {
  path: "/sdapi/v1/txt2img",
  body: {
    prompt: "a sailing boat on a calm sea at sunset, oil painting",
    seed: 8787,
    width: SIZE,
    height: SIZE,
    steps: 8,
  },
};
export const SOUND = {
  path: "/AIVoice/TTS/CosyVoice2/audio-generate",
  body: { text: "Welcome to Portico, the front door for your own graphics cards." },
};

export interface Shown {
  file: string;
  what: string;
  ms: number;
  /** It came from the cache of an earlier start. */
  hit: boolean;
}

export async function drawPicture(url: string, key: string, stateDir: string): Promise<Shown> {
  const { bytes: answer, ms, hit } = await call(url, key, PICTURE);
  const { images }: { images?: string[] } = JSON.parse(answer.toString());
  const png = Buffer.from(images?.[0] ?? "", "base64");
  const size = sizeOfPng(png);
  if (size?.width !== SIZE || size.height !== SIZE) throw new Error(`the picture is no PNG of ${SIZE}x${SIZE}`);
  const file = join(stateDir, "demo.png");
  await writeFile(file, png);
  return { file, what: `${SIZE}x${SIZE} PNG, ${kib(png)}`, ms, hit };
}

export async function speak(url: string, key: string, stateDir: string): Promise<Shown> {
  const { bytes: wav, ms, hit } = await call(url, key, SOUND);
  const seconds = secondsOfWav(wav);
  if (seconds === null || seconds <= 0) throw new Error("the sound is no WAV");
  const file = join(stateDir, "demo.wav");
  await writeFile(file, wav);
  return { file, what: `${seconds.toFixed(1)} s of WAV, ${kib(wav)}`, ms, hit };
}

async function call(url: string, key: string, { path, body }: { path: string; body: object }) {
  const from = performance.now();
  const answer = await fetch(url + path, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(CALL_MS_MAX),
  });
  const bytes = Buffer.from(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${bytes.toString().slice(0, 500)}`);
  const hit = /\bhit\b/.test(answer.headers.get("cache-status") ?? "");
  return { bytes, ms: Math.round(performance.now() - from), hit };
}

const PNG_SIGNATURE = Buffer.from("89504e470d0a1a0a", "hex");

/** Width and height of a complete PNG (with its end chunk); null for anything else. */
export function sizeOfPng(png: Buffer): { width: number; height: number } | null {
  const whole =
    png.length > 45 && png.subarray(0, 8).equals(PNG_SIGNATURE) && png.subarray(-8, -4).toString("latin1") === "IEND";
  return whole ? { width: png.readUInt32BE(16), height: png.readUInt32BE(20) } : null;
}

/** Duration of a WAV that contains all the data that its header announces; null for anything else. */
export function secondsOfWav(wav: Buffer): number | null {
  if (wav.length < 44 || wav.toString("latin1", 0, 4) !== "RIFF" || wav.toString("latin1", 8, 12) !== "WAVE")
    return null;
  let bytesPerSecond = 0;
  for (let at = 12; at + 8 <= wav.length;) {
    const [id, length] = [wav.toString("latin1", at, at + 4), wav.readUInt32LE(at + 4)];
    if (id === "fmt " && at + 20 <= wav.length) bytesPerSecond = wav.readUInt32LE(at + 16);
    if (id === "data") return bytesPerSecond > 0 ? dataBytes(wav, at + 8, length) / bytesPerSecond : null;
    at += 8 + length + (length % 2);
  }
  return null;
}

/** A streamed WAV cannot know its length and announces the largest number; its data is then the rest of the file. */
function dataBytes(wav: Buffer, from: number, length: number): number {
  const there = wav.length - from;
  if (length >= 0x7fff_0000) return there;
  return length <= there ? length : 0;
}

function kib(bytes: Buffer): string {
  return `${Math.ceil(bytes.length / 1024)} KiB`;
}
