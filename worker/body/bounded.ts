/** An answer's body read whole: within a limit, and within a share of the isolate's buffers. */
import { concat } from "./bytes.ts";
import type { Room } from "./buffers.ts";

/**
 * Null: it is longer than `max` bytes, or there is no room for `times` as much as it is; the rest is not read. Throws when
 * the body breaks off.
 */
export async function readWhole(
  body: ReadableStream<Uint8Array> | null,
  { max, times, room }: { max: number; times: number; room: Room },
): Promise<Uint8Array<ArrayBuffer> | null> {
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
    return null;
  }
}
