/**
 * A large object of R2 on its way to a reader, who may be slow: it is read window by window, as he takes it, so that no
 * more of it is held than one of them, no connection to R2 waits for him, and one that fails at once is tried again.
 * For objects whose bytes never change.
 */
import { answered } from "../../durable-objects/answer-protocol.ts";
import { PART_BYTES } from "./deposit.ts";
import { repeated } from "./repeated.ts";

/** What is no larger is read at once. */
export const WINDOW_BYTES = PART_BYTES;

interface Span {
  offset: number;
  length: number;
}

/** These bytes of it; they end early, and not like an end, where it is deleted meanwhile. */
export function inWindows(bucket: R2Bucket, key: string, span: Span): ReadableStream<Uint8Array> {
  const { readable, writable } = new FixedLengthStream(span.length);
  void pour(bucket, key, span, writable).catch((error: unknown) => writable.abort(error).catch(ignore));
  return readable;
}

async function pour(bucket: R2Bucket, key: string, span: Span, to: WritableStream<Uint8Array>): Promise<void> {
  const end = span.offset + span.length;
  for (let offset = span.offset; offset < end; offset += WINDOW_BYTES) {
    const range = { offset, length: Math.min(WINDOW_BYTES, end - offset) };
    const window = await repeated(() => answered(bucket.get(key, { range })));
    if (window === null) throw new Error(`${key} is gone`);
    await window.body.pipeTo(to, { preventClose: true });
  }
  await to.close();
}

/** The reader is gone already. */
function ignore(): void {}
