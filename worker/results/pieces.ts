/** Extracts the finished images and sounds from a complete answer, or finds what is wrong with it. Pure. */
import type { Ask } from "../ask.ts";
import { isJson } from "../body/fields.ts";
import { at } from "../../durable-objects/json-pointer.ts";
import { detail, type Detail } from "../details.ts";
import { imagesAt } from "../services/kinds.ts";
import { fromBase64, HEAD_BYTES, isTelling, type Media, media, mediaTypeOf } from "./media.ts";

/** What is known about an answer besides its bytes. */
export interface Head {
  status: number;
  headers: Headers;
  /** The transport marked where the body ends (a length or chunked encoding). */
  endKnown: boolean;
  /** The origin forbids caches to store it. */
  noStore?: boolean;
}

/** A complete answer of an origin. */
export interface Whole extends Head {
  bytes: Uint8Array<ArrayBuffer>;
}

export interface Piece {
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

export const NO_IMAGES = detail("no_images");
const NO_SOUND = detail("not_sound");

/** Returns the finished images and sounds in an answer, or why the answer is invalid. */
export function pieces(ask: Ask, whole: Whole): Piece[] | { problem: Detail } {
  const problem = misfit(ask, whole);
  if (problem !== null) return { problem };
  if (whole.status < 200 || whole.status >= 300 || hasNoContent(ask, whole)) return [];
  if (makesSounds(ask) && whole.bytes.byteLength === 0) return { problem: detail("empty_body") };
  if (isJson(mediaTypeOf(whole.headers))) return jsonPieces(ask, whole.bytes);
  if (!isMedia(whole)) return [];
  const judged = judge(ask, whole, media(whole.bytes));
  if ("problem" in judged) return judged;
  return judged.type === null ? [] : [{ type: judged.type, bytes: whole.bytes }];
}

/** Whether the answer has no content, whatever its headers say (RFC 9110 9.3.2, 15.3.5, 15.3.6). */
function hasNoContent({ method }: Ask, { status }: Head): boolean {
  return method === "HEAD" || status === 204 || status === 205;
}

/**
 * Returns why an answer cannot be what its service makes, judging by its head and, for a stream, by its first bytes;
 * null when it can be.
 */
export function misfit(ask: Ask, head: Head, first?: Uint8Array): Detail | null {
  const { status, headers } = head;
  if (ask.method === "HEAD") return null;
  if (status === 204 || status === 205 || status === 304)
    return makesImages(ask) || makesSounds(ask) ? detail("no_content", { status }) : null;
  if (status < 200 || status >= 300) return null;
  const type = mediaTypeOf(headers);
  if (makesImages(ask) && !isJson(type) && !type?.startsWith("image/")) return detail("not_json_or_image");
  // Fewer bytes are not enough to recognize a format.
  if (first === undefined || first.byteLength < HEAD_BYTES) return null;
  return isNoSound(ask, head, media(first)?.type ?? null) ? NO_SOUND : null;
}

/**
 * Whether a success lacks the images or sounds that its path makes: it has an empty list of images, as a WebUI sends it
 * when asked not to return them, or text instead of a sound. Such an answer is sent to its caller but never shared.
 */
export function isBare(ask: Ask, { status, headers }: Head, found: Piece[]): boolean {
  if (found.length > 0 || status < 200 || status >= 300) return false;
  const type = mediaTypeOf(headers);
  if (makesSounds(ask)) return isJson(type) || type?.startsWith("text/") === true;
  return imagesDueAt(ask) !== null;
}

/** JSON pointer to the images that a success must contain; null: it need not contain any. */
export function imagesDueAt(ask: Ask): string | null {
  return makesImages(ask) ? imagesAt(ask.service, ask.path) : null;
}

/** Whether the body itself should be an image, a sound or a film. */
export function isMedia({ status, headers }: Head): boolean {
  return status >= 200 && status < 300 && /^(image|audio|video)\//.test(mediaTypeOf(headers) ?? "");
}

/**
 * Judges a complete media body. `found`: what its bytes were recognized as. A null `type` means that the body may be
 * something else, or incomplete.
 */
export function judge(ask: Ask, head: Head, found: Media | null): { type: string | null } | { problem: Detail } {
  if (found?.end === "cut") return { problem: detail("damaged", { type: found.type }) };
  if (found === null && makesImages(ask)) return { problem: detail("not_image") };
  if (isNoSound(ask, head, found?.type ?? null)) return { problem: NO_SOUND };
  // It is not what its Content-Type says, such as an origin's error.
  if (found === null && isTelling(mediaTypeOf(head.headers))) return { type: null };
  // Either the format or the transport must mark the end.
  if (found?.end !== "whole" && !head.endKnown) return { type: null };
  return { type: found?.type ?? mediaTypeOf(head.headers) };
}

/**
 * Whether the bytes contradict their `audio/` Content-Type. `found`: the type they were recognized as, or null. Only
 * WAV is always recognized, so bytes of any other type may be unrecognized.
 */
function isNoSound(ask: Ask, { headers }: Head, found: string | null): boolean {
  const type = mediaTypeOf(headers);
  if (!makesSounds(ask) || type?.startsWith("audio/") !== true) return false;
  return found === null ? isTelling(type) : !found.startsWith("audio/");
}

function makesImages({ service, as }: Ask): boolean {
  return service.config.kind === "image" && as === "run";
}

function makesSounds({ service, as }: Ask): boolean {
  return service.config.kind === "tts" && as === "run";
}

/** A WebUI answers with JSON that holds its images in base64. */
function jsonPieces(ask: Ask, bytes: Uint8Array): Piece[] | { problem: Detail } {
  const mapped = imagesDueAt(ask);
  const pointer = ask.resultsAt ?? mapped ?? (ask.service.config.kind === "image" ? "/images" : null);
  let answer: unknown;
  try {
    answer = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch {
    return { problem: detail("damaged_json") };
  }
  const images = pointer === null ? null : (at(answer, pointer) ?? null);
  if (images === null) return mapped === null ? [] : { problem: NO_IMAGES };
  const found: Piece[] = [];
  for (const image of [images].flat()) {
    const decoded = typeof image === "string" ? fromBase64(image) : null;
    const kindOf = decoded === null ? null : media(decoded);
    if (decoded === null || kindOf === null || kindOf.end !== "whole") return { problem: detail("damaged_image") };
    found.push({ type: kindOf.type, bytes: decoded });
  }
  return found;
}
