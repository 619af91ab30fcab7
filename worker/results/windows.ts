/**
 * Streams a large R2 object to a possibly slow reader, one window at a time as the reader consumes it. At most one
 * window is in memory, no R2 connection waits for the reader, and a window that fails to open is retried. For immutable
 * objects only.
 */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { PART_BYTES } from "./part-writer.ts";
import { repeated } from "./repeated.ts";

/** Anything no larger is read at once. */
export const WINDOW_BYTES = PART_BYTES;

interface Span {
  offset: number;
  length: number;
}

/** Returns the bytes of the span. The stream errors if the object is deleted meanwhile. */
export function inWindows(bucket: R2Bucket, key: string, span: Span): ReadableStream<Uint8Array> {
  const { readable, writable } = new FixedLengthStream(span.length);
  void pour(bucket, key, span, writable).catch((error: unknown) => writable.abort(error).catch(ignore));
  return readable;
}

async function pour(bucket: R2Bucket, key: string, span: Span, to: WritableStream<Uint8Array>): Promise<void> {
  const end = span.offset + span.length;
  for (let offset = span.offset; offset < end; offset += WINDOW_BYTES) {
    const range = { offset, length: Math.min(WINDOW_BYTES, end - offset) };
    const window = await repeated(() => withTimeout(bucket.get(key, { range })));
    if (window === null) throw new Error(`${key} is gone`);
    await window.body.pipeTo(to, { preventClose: true });
  }
  await to.close();
}

/** The reader is already gone. */
function ignore(): void {}
