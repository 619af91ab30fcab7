/** The finished images and sounds in a complete answer, or what is wrong with it. Pure. */
import type { Ask } from "./ask.ts";
import { isJson } from "./fields.ts";
import { listAt } from "./mapping.ts";
import { fromBase64, media, mediaTypeOf } from "./media.ts";

/** A complete answer of an origin. */
export interface Whole {
  status: number;
  headers: Headers;
  bytes: Uint8Array<ArrayBuffer>;
  /** The transport said where the body ends (a length or chunks). */
  endKnown: boolean;
}

export interface Piece {
  type: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/** The finished images and sounds in an answer, or why the answer is not valid. */
export function pieces(ask: Ask, whole: Whole): Piece[] | { problem: string } {
  if (whole.status < 200 || whole.status >= 300) return [];
  const type = mediaTypeOf(whole.headers);
  const { kind } = ask.service.config;
  if (isJson(type)) return jsonPieces(ask.resultsAt ?? (kind === "image" ? "/images" : null), whole.bytes);
  if (kind === "image" && ask.as === "run" && !type?.startsWith("image/"))
    return { problem: "it is neither JSON nor an image" };
  if (type === null || !/^(image|audio)\//.test(type)) return [];
  const found = media(whole.bytes);
  if (found?.end === "cut") return { problem: `its ${found.type} is damaged` };
  if (found === null && kind === "image" && ask.as === "run") return { problem: "it is not an image" };
  // Its own structure or the transport must say that this is all of it.
  if (found?.end !== "whole" && !whole.endKnown) return [];
  return [{ type: found?.type ?? type, bytes: whole.bytes }];
}

/** A WebUI answers JSON with its images in base64. `pointer` leads to them; null: nothing in it is one. */
function jsonPieces(pointer: string | null, bytes: Uint8Array): Piece[] | { problem: string } {
  let answer: unknown;
  try {
    answer = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch {
    return { problem: "its JSON is damaged" };
  }
  const images = pointer === null ? [] : listAt(answer, pointer);
  const found: Piece[] = [];
  for (const image of images) {
    const decoded = typeof image === "string" ? fromBase64(image) : null;
    const kindOf = decoded === null ? null : media(decoded);
    if (decoded === null || kindOf === null || kindOf.end !== "whole") return { problem: "an image in it is damaged" };
    found.push({ type: kindOf.type, bytes: decoded });
  }
  return found;
}
