/** Takes an origin's answer: whole when it is made at once and small enough, else as a stream. */
import type { Ask } from "../ask.ts";
import { concat } from "../body/bytes.ts";
import { Room } from "../body/buffers.ts";
import { mediaTypeOf } from "../results/media.ts";
import { failure, type Failure } from "../origin.ts";
import { handedOn } from "./headers.ts";
import { isMedia, type Whole } from "../results/pieces.ts";
import type { Silence } from "./silence.ts";
import { Source } from "./source.ts";

/** Answers up to this are read whole before they are handed on: failover until the last byte, checked, stored. */
const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;

export interface TakenWhole {
  kind: "whole";
  whole: Whole;
  room: Room;
}

/** An answer that goes on as a stream: what was read of it, with its share of the buffers, and where the rest comes from. */
export interface TakenStream {
  kind: "stream";
  room: Room;
  status: number;
  headers: Headers;
  source: Source;
  first: Uint8Array[];
  /** Null when the origin did not say it. */
  length: number | null;
  endKnown: boolean;
  /** Why nothing of it can be kept; null: it may be. */
  unkept: "too_large" | "no_room" | null;
}

/**
 * Whole: what has a length or is of a kind that is made at once, up to a limit. What is longer, and streamed sound and
 * events, goes on as a stream.
 */
export async function take(
  response: Response,
  ask: Ask,
  silence: Silence,
): Promise<TakenWhole | TakenStream | Failure> {
  const { status, body } = response;
  const headers = handedOn(response, ask);
  const length = saidLength(response);
  const endKnown = length !== null || /\bchunked\b/i.test(response.headers.get("transfer-encoding") ?? "");
  const room = new Room();
  if (body === null)
    return { kind: "whole", whole: { status, headers, bytes: new Uint8Array(0), endKnown: true }, room };
  const stream = {
    kind: "stream" as const,
    room,
    status,
    headers,
    source: new Source(body),
    first: [] as Uint8Array[],
    length,
    endKnown,
    unkept:
      !isMedia({ status, headers, endKnown }) && (length ?? 0) > BUFFERED_BYTES_MAX ? ("too_large" as const) : null,
  };
  if (!isMadeAtOnce(headers, length, status)) return begin(stream, silence);
  try {
    for (let bytes = 0; ;) {
      const piece = await stream.source.read();
      if (piece === null)
        return { kind: "whole", whole: { status, headers, bytes: concat(stream.first, bytes), endKnown }, room };
      silence.heard();
      bytes += piece.byteLength;
      stream.first.push(piece);
      // Bytes, their text, and the images decoded.
      const fits = bytes <= BUFFERED_BYTES_MAX && (room.grow(3 * bytes) || (await room.growSoon(3 * bytes)));
      if (fits) continue;
      room.shrink(bytes);
      if (isMedia(stream)) return stream;
      return { ...stream, unkept: bytes > BUFFERED_BYTES_MAX ? "too_large" : "no_room" };
    }
  } catch {
    room.free();
    return failure("origin_reset", "yes", false);
  }
}

/** The body's length as the origin said it; null where it said none, or that of an encoding which the runtime undoes. */
export function saidLength({ headers }: Response): number | null {
  const length = headers.has("content-encoding") ? null : headers.get("content-length");
  return length === null ? null : Number(length);
}

/** A stream has begun with its first bytes: one that breaks before them has given the caller nothing. */
async function begin(stream: TakenStream, silence: Silence): Promise<TakenStream | TakenWhole | Failure> {
  try {
    const piece = await stream.source.read();
    if (piece === null) {
      const { status, headers, endKnown } = stream;
      return { kind: "whole", whole: { status, headers, bytes: new Uint8Array(0), endKnown }, room: new Room() };
    }
    silence.heard();
    stream.first.push(piece);
    return stream;
  } catch {
    return failure("origin_reset", "yes", false);
  }
}

function isMadeAtOnce(headers: Headers, length: number | null, status: number): boolean {
  const type = mediaTypeOf(headers) ?? "";
  if (type === "text/event-stream") return false;
  if (length !== null) return length <= BUFFERED_BYTES_MAX;
  return /json$|^image\//.test(type) || status >= 400;
}
