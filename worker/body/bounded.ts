/** Reads the whole body of an answer, within a size limit and the isolate's buffer limit. */
import { concat } from "./bytes.ts";
import type { Room } from "./buffers.ts";

/**
 * Returns a reason, without reading the rest, when the body is longer than `max` bytes or the buffers have no room for
 * `times` its size. Throws when the body breaks off.
 */
export async function readWhole(
  body: ReadableStream<Uint8Array> | null,
  { max, times, room }: { max: number; times: number; room: Room },
): Promise<Uint8Array<ArrayBuffer> | "too_large" | "no_room"> {
  if (body === null) return new Uint8Array(0);
  const reader = body.getReader();
  const pieces: Uint8Array[] = [];
  for (let bytes = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return concat(pieces, bytes);
    bytes += value.byteLength;
    pieces.push(value);
    if (bytes <= max && (await room.growSoon(times * bytes))) continue;
    await reader.cancel();
    return bytes > max ? "too_large" : "no_room";
  }
}
