/** Extracts the finished images and sounds from a complete answer, or finds what is wrong with it. Pure. */
import type { Ask } from "../ask.ts";
import { isJson } from "../body/fields.ts";
import { listAt } from "../dialects/mapping.ts";
import { detail, type Detail } from "../details.ts";
import { fromBase64, isTelling, type Media, media, mediaTypeOf } from "./media.ts";

/** What is known about an answer besides its bytes. */
export interface Head {
  status: number;
  headers: Headers;
  /** The transport marked where the body ends (a length or chunked encoding). */
  endKnown: boolean;
}

/** A complete answer of an origin. */
export interface Whole extends Head {
  bytes: Uint8Array<ArrayBuffer>;
}

export interface Piece {
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** Returns the finished images and sounds in an answer, or why the answer is invalid. */
export function pieces(ask: Ask, whole: Whole): Piece[] | { problem: Detail } {
  if (whole.status < 200 || whole.status >= 300 || hasNoContent(ask, whole)) return [];
  if (isJson(mediaTypeOf(whole.headers))) {
    const isImage = ask.service.config.kind === "image";
    return jsonPieces(ask.resultsAt ?? (isImage ? "/images" : null), whole.bytes);
  }
  const problem = misfit(ask, whole);
  if (problem !== null) return { problem };
  if (!isMedia(whole)) return [];
  const judged = judge(ask, whole, media(whole.bytes));
  if ("problem" in judged) return judged;
  return judged.type === null ? [] : [{ type: judged.type, bytes: whole.bytes }];
}

/** Whether the answer has no content, whatever its headers say (RFC 9110 9.3.2, 15.3.5, 15.3.6). */
function hasNoContent({ method }: Ask, { status }: Head): boolean {
  return method === "HEAD" || status === 204 || status === 205;
}

/** Why a success cannot be what its service makes, judging by its head alone; null when it can be. */
export function misfit(ask: Ask, head: Head): Detail | null {
  const { status, headers } = head;
  if (status < 200 || status >= 300 || hasNoContent(ask, head)) return null;
  const type = mediaTypeOf(headers);
  return makesImages(ask) && !isJson(type) && !type?.startsWith("image/") ? detail("not_json_or_image") : null;
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
  // It is not what its Content-Type says: an origin's error, or only the first bytes of a sound.
  if (found === null && isTelling(mediaTypeOf(head.headers))) return { type: null };
  // Either the format or the transport must mark the end.
  if (found?.end !== "whole" && !head.endKnown) return { type: null };
  return { type: found?.type ?? mediaTypeOf(head.headers) };
}

function makesImages({ service, as }: Ask): boolean {
  return service.config.kind === "image" && as === "run";
}

/** A WebUI answers with JSON that holds its images in base64. `pointer` leads to them; null: it holds none. */
function jsonPieces(pointer: string | null, bytes: Uint8Array): Piece[] | { problem: Detail } {
  let answer: unknown;
  try {
    answer = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch {
    return { problem: detail("damaged_json") };
  }
  const images = pointer === null ? [] : listAt(answer, pointer);
  const found: Piece[] = [];
  for (const image of images) {
    const decoded = typeof image === "string" ? fromBase64(image) : null;
    const kindOf = decoded === null ? null : media(decoded);
    if (decoded === null || kindOf === null || kindOf.end !== "whole") return { problem: detail("damaged_image") };
    found.push({ type: kindOf.type, bytes: decoded });
  }
  return found;
}
