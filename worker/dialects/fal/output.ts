/** Renders a run's output in fal's format: files by URL, and the origin's own JSON without its images. */
import { imageSize } from "image-size";
import type { JobView } from "../../../durable-objects/job-protocol.ts";
import { config, type Env } from "../../env.ts";
import type { Piece } from "../../results/pieces.ts";
import { signedUrl } from "../../results/signature.ts";
import { resultKey } from "../../results/result.ts";

/** Bytes of an image that are enough to read its dimensions. */
const HEAD_BYTES = 64 * 1024;

interface FileShown {
  url: string;
  content_type: string;
  file_name: string;
  file_size: number;
  width?: number;
  height?: number;
}

type Place = { env: Env; base: string };

/** The output of a finished job. */
export async function outputOf(place: Place, { state }: Pick<JobView, "state">): Promise<unknown> {
  const files = state.results.map(async ({ id, contentType, bytes }) => {
    const head = contentType.startsWith("image/") ? await headOf(place, id) : null;
    return fileOf(await urlOf(place, id), id, { type: contentType, bytes, head });
  });
  return withFiles(state.output, await Promise.all(files));
}

/** The output of a run whose answer is in memory. A file that was not stored (`no-store`) becomes a `data:` URL. */
export async function outputOfPieces(
  place: Place,
  pieces: Piece[],
  results: string[],
  json: string | null,
): Promise<unknown> {
  const files = pieces.map(async ({ type, bytes }, i) => {
    const id = results[i];
    const url = id === undefined ? `data:${type};base64,${bytes.toBase64()}` : await urlOf(place, id);
    return fileOf(url, id ?? String(i), { type, bytes: bytes.byteLength, head: bytes });
  });
  return withFiles(json, await Promise.all(files));
}

function urlOf({ env, base }: Place, id: string): Promise<string> {
  return signedUrl(config(env), base, id, Date.now());
}

async function headOf({ env }: Place, id: string): Promise<Uint8Array | null> {
  const object = await env.RESULTS.get(resultKey(id), { range: { offset: 0, length: HEAD_BYTES } });
  return object === null ? null : new Uint8Array(await object.arrayBuffer());
}

interface Known {
  type: string;
  bytes: number;
  head: Uint8Array | null;
}

function fileOf(url: string, name: string, { type, bytes, head }: Known): FileShown {
  const size = type.startsWith("image/") && head !== null ? sizeOf(head) : {};
  return { url, content_type: type, file_name: `${name}.${type.split("/")[1] ?? "bin"}`, file_size: bytes, ...size };
}

function sizeOf(head: Uint8Array): { width: number; height: number } | object {
  try {
    const { width, height } = imageSize(head);
    return { width, height };
  } catch {
    // An unknown image type, or a header longer than HEAD_BYTES.
    return {};
  }
}

function withFiles(json: string | null, files: FileShown[]): unknown {
  const value: unknown = json === null ? {} : JSON.parse(json);
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject) return files.length === 0 ? value : { output: value, ...media(files) };
  const own = value as Record<string, unknown>;
  return { ...told(own), ...own, ...media(files) };
}

function media(files: FileShown[]) {
  const images = files.filter(({ content_type: type }) => type.startsWith("image/"));
  const [audio] = files.filter(({ content_type: type }) => type.startsWith("audio/"));
  return { ...(images.length === 0 ? {} : { images }), ...(audio === undefined ? {} : { audio }) };
}

/** A WebUI reports the seed that it used, as JSON text in `info`. */
function told({ info }: Record<string, unknown>): Record<string, unknown> {
  if (typeof info !== "string") return {};
  try {
    const { seed, prompt } = JSON.parse(info) as { seed?: unknown; prompt?: unknown };
    return { ...(seed === undefined ? {} : { seed }), ...(prompt === undefined ? {} : { prompt }) };
  } catch {
    return {};
  }
}
