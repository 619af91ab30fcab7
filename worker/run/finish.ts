/** The outcome of a run as its followers get it. */
import type { Finish } from "../../durable-objects/pool-protocol.ts";
import type { Whole } from "../results/pieces.ts";
import type { Kept } from "../store.ts";

/** Maximum size of an origin's own error that followers get, bytes. */
const SHARED_BYTES_MAX = 64 * 1024;

export function finishOf(whole: Whole, kept: Kept): Finish {
  if (kept.answer) return { kind: "stored" };
  const body = whole.status < 400 || whole.bytes.byteLength > SHARED_BYTES_MAX ? null : textOf(whole.bytes);
  if (body === null) return { kind: "alone" };
  return { kind: "answer", status: whole.status, contentType: whole.headers.get("content-type"), body };
}

/** Null for bytes that are not text, because they would not survive the conversion. */
function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
