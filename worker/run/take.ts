/** Takes an origin's answer: buffered when it is produced at once and small enough, otherwise as a stream. */
import type { Ask } from "../ask.ts";
import { concat } from "../body/bytes.ts";
import { Room } from "../body/buffers.ts";
import { mediaTypeOf } from "../results/media.ts";
import { failure, type Failure } from "../origin.ts";
import { forbidsStoring, responseHeaders } from "./headers.ts";
import { isMedia, type Whole } from "../results/pieces.ts";
import type { ReadTimeout } from "./read-timeout.ts";
import { Source } from "./source.ts";

/**
 * Answers up to this size are buffered before they are sent, so that they can fail over up to the last byte, be checked
 * and be stored.
 */
export const ANSWER_BUFFERED_BYTES_MAX = 16 * 1024 * 1024;

export interface TakenWhole {
  kind: "whole";
  whole: Whole;
  room: Room;
}

/** An answer that is streamed: the chunks read so far with their share of the buffers, and the source of the rest. */
export interface TakenStream {
  kind: "stream";
  room: Room;
  status: number;
  headers: Headers;
  source: Source;
  first: Uint8Array[];
  /** Null when the origin did not declare it. */
  length: number | null;
  endKnown: boolean;
  noStore: boolean;
  /** Why nothing of it can be stored; null: it may be. */
  unkept: "too_large" | "no_room" | null;
}

/**
 * Buffers an answer that declares its length or is of a type produced at once, up to a limit. Longer answers, streamed
 * sound and events are returned as streams.
 */
export async function take(
  response: Response,
  ask: Ask,
  readTimeout: ReadTimeout,
): Promise<TakenWhole | TakenStream | Failure> {
  const { status, body } = response;
  const headers = responseHeaders(response, ask);
  const length = saidLength(response);
  const endKnown = length !== null || /\bchunked\b/i.test(response.headers.get("transfer-encoding") ?? "");
  const noStore = forbidsStoring(response);
  const room = new Room();
  if (body === null)
    return { kind: "whole", whole: { status, headers, bytes: new Uint8Array(0), endKnown: true, noStore }, room };
  const stream = {
    kind: "stream" as const,
    room,
    status,
    headers,
    source: new Source(body),
    first: [] as Uint8Array[],
    length,
    endKnown,
    noStore,
    unkept:
      !isMedia({ status, headers, endKnown }) && (length ?? 0) > ANSWER_BUFFERED_BYTES_MAX
        ? ("too_large" as const)
        : null,
  };
  if (!isMadeAtOnce(headers, length, status)) return begin(stream, readTimeout);
  try {
    for (let bytes = 0; ;) {
      const piece = await stream.source.read();
      if (piece === null)
        return {
          kind: "whole",
          whole: { status, headers, bytes: concat(stream.first, bytes), endKnown, noStore },
          room,
        };
      readTimeout.reset();
      bytes += piece.byteLength;
      stream.first.push(piece);
      // Room for the bytes, their text and the decoded images.
      const fits = bytes <= ANSWER_BUFFERED_BYTES_MAX && (room.grow(3 * bytes) || (await room.growSoon(3 * bytes)));
      if (fits) continue;
      room.shrink(bytes);
      if (isMedia(stream)) return stream;
      return { ...stream, unkept: bytes > ANSWER_BUFFERED_BYTES_MAX ? "too_large" : "no_room" };
    }
  } catch {
    room.free();
    return failure("origin_reset", "yes", false);
  }
}

/** The body's declared length. Null if there is none, or if it is that of an encoding the runtime decodes. */
export function saidLength({ headers }: Response): number | null {
  const length = headers.has("content-encoding") ? null : headers.get("content-length");
  return length === null ? null : Number(length);
}

/** A stream counts as begun with its first bytes: if it breaks before them, the caller has received nothing. */
async function begin(stream: TakenStream, readTimeout: ReadTimeout): Promise<TakenStream | TakenWhole | Failure> {
  try {
    const piece = await stream.source.read();
    if (piece === null) {
      const { status, headers, endKnown, noStore } = stream;
      const whole = { status, headers, bytes: new Uint8Array(0), endKnown, noStore };
      return { kind: "whole", whole, room: new Room() };
    }
    readTimeout.reset();
    stream.first.push(piece);
    return stream;
  } catch {
    return failure("origin_reset", "yes", false);
  }
}

function isMadeAtOnce(headers: Headers, length: number | null, status: number): boolean {
  const type = mediaTypeOf(headers) ?? "";
  if (type === "text/event-stream") return false;
  if (length !== null) return length <= ANSWER_BUFFERED_BYTES_MAX;
  return /json$|^image\//.test(type) || status >= 400;
}
