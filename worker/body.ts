/** Reads the caller's body within bounds: buffered up to a limit, beyond it one pass through. */
import { Room } from "./buffers.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";

const MIB = 1024 * 1024;
/** Bodies up to this are buffered: for the fingerprint, and so that a try can be repeated. */
export const BUFFERED_BYTES_MAX = 8 * MIB;
/** A body whose fields a service bounds must be read before it may pass; it is buffered up to this. */
const CHECKED_BYTES_MAX = 32 * MIB;
/** Longest silence of a caller that sends a body. */
const SILENCE_MS = 30_000;

export type Body =
  | { kind: "none" }
  | { kind: "bytes"; bytes: Uint8Array<ArrayBuffer>; room: Room }
  /** Goes through once: no repeat, no fingerprint. `overrun` is set when it turns out longer than the service takes. */
  | { kind: "stream"; stream: ReadableStream<Uint8Array>; length: number | null; overrun: { refusal: Refusal | null } };

export interface BodyLimits {
  /** Most bytes the service takes. */
  max: number;
  /** Fields are bounded or forbidden: the body must be seen whole before it may pass. */
  checked: boolean;
}

export async function readBody(request: Request, limits: BodyLimits): Promise<Body | Refusal> {
  const length = contentLength(request);
  if (isRefusal(length)) return length;
  const tooLarge = refuse("body_too_large", { facts: { max_mb: limits.max / 1e6 } });
  if (length !== null && length > limits.max) return tooLarge;
  if (request.body === null || length === 0) return { kind: "none" };
  const most = Math.min(limits.max, limits.checked ? CHECKED_BYTES_MAX : BUFFERED_BYTES_MAX);
  if (length !== null && length > most) {
    return limits.checked ? tooLarge : passThrough(request.body, [], 0, length, limits.max);
  }
  const room = new Room();
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const read = await silent(reader);
    if (isRefusal(read)) {
      room.free();
      return read;
    }
    if (read.done) break;
    bytes += read.value.byteLength;
    chunks.push(read.value);
    if (bytes > limits.max || (bytes > most && limits.checked)) {
      room.free();
      await reader.cancel().catch(() => undefined);
      return tooLarge;
    }
    if (bytes > most) {
      room.free();
      reader.releaseLock();
      return passThrough(request.body, chunks, bytes, length, limits.max);
    }
    // Bytes now, text and parsed JSON later.
    if (!room.grow(3 * bytes) && !(await room.growSoon(3 * bytes))) {
      room.free();
      await reader.cancel().catch(() => undefined);
      return refuse("queue_full", { facts: { length: "", max: "" }, retryAfterMs: 1000 });
    }
  }
  if (bytes === 0) return { kind: "none" };
  return { kind: "bytes", bytes: concat(chunks, bytes), room };
}

function contentLength(request: Request): number | null | Refusal {
  const header = request.headers.get("content-length");
  if (header === null) return null;
  if (!/^\d{1,15}$/.test(header)) return refuse("invalid_field", { param: "Content-Length", facts: { detail: "is not a number" } });
  return Number(header);
}

async function silent(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<ReadableStreamReadResult<Uint8Array> | Refusal> {
  let timer: number | null = null;
  const silence = new Promise<Refusal>((resolve) => {
    const facts = { detail: `did not arrive: ${SILENCE_MS / 1000} s without a byte` };
    timer = setTimeout(() => resolve(refuse("invalid_field", { param: "body", facts })), SILENCE_MS);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch {
    return refuse("client_gone");
  } finally {
    clearTimeout(timer);
  }
}

/** The rest of a body after what was read of it, cut with an error where it grows beyond `max`. */
function passThrough(body: ReadableStream, read: Uint8Array[], bytes: number, length: number | null, max: number): Body {
  const overrun: { refusal: Refusal | null } = { refusal: null };
  let total = bytes;
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    start(controller) {
      for (const chunk of read) controller.enqueue(chunk);
    },
    transform(chunk, controller) {
      total += chunk.byteLength;
      if (total <= max) controller.enqueue(chunk);
      else {
        overrun.refusal = refuse("body_too_large", { facts: { max_mb: max / 1e6 } });
        controller.error(new RangeError("body too large"));
      }
    },
  });
  return { kind: "stream", stream: body.pipeThrough(counted), length, overrun };
}

export function concat(chunks: Uint8Array[], bytes: number): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
