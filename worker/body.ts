/** Reads the caller's body within bounds: buffered up to a limit, beyond it one pass through. */
import { Room } from "./buffers.ts";
import { type Refusal, isRefusal, refuse } from "./refusal.ts";

const MIB = 1024 * 1024;
/** Bodies up to this are buffered: for the fingerprint, and so that a try can be repeated. */
const BUFFERED_BYTES_MAX = 8 * MIB;
/** A body whose fields a service bounds must be read before it may pass; it is buffered up to this. */
const CHECKED_BYTES_MAX = 32 * MIB;
/** Longest silence of a caller that sends a body. */
const SILENCE_MS = 30_000;

export type Body =
  | { kind: "none" }
  | { kind: "bytes"; bytes: Uint8Array<ArrayBuffer>; room: Room }
  /** Goes through once: no repeat, no fingerprint. */
  | { kind: "stream"; stream: ReadableStream<Uint8Array>; length: number | null; upload: Upload };

/** How far a body has come that goes through. */
export interface Upload {
  /** It turned out longer than the service takes. */
  refusal: Refusal | null;
  /** Whose turn it is: the caller's to send more, or the origin's to take or answer it. */
  turn: "caller" | "origin";
  /** Called when the turn goes to the other. */
  turned: () => void;
}

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
  if (!/^\d{1,15}$/.test(header))
    return refuse("invalid_field", { param: "Content-Length", facts: { detail: "is not a number" } });
  return Number(header);
}

async function silent(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): Promise<ReadableStreamReadResult<Uint8Array> | Refusal> {
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
function passThrough(
  body: ReadableStream,
  read: Uint8Array[],
  bytes: number,
  length: number | null,
  max: number,
): Body {
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  const upload: Upload = { refusal: null, turn: "origin", turned: () => undefined };
  const turn = (whose: Upload["turn"]): void => {
    upload.turn = whose;
    upload.turned();
  };
  let total = bytes;
  const more = async (): Promise<Uint8Array | null> => {
    turn("caller");
    const { done, value } = await reader.read();
    turn("origin");
    if (done) return null;
    total += value.byteLength;
    return value;
  };
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const chunk = read.shift() ?? (await more());
    if (chunk === null) controller.close();
    else if (total <= max) controller.enqueue(chunk);
    else {
      upload.refusal = refuse("body_too_large", { facts: { max_mb: max / 1e6 } });
      controller.error(new RangeError("body too large"));
    }
  };
  const cancel = (reason: unknown): Promise<void> => reader.cancel(reason);
  // Nothing is read ahead: whose turn it is tells who is slow.
  const stream = new ReadableStream<Uint8Array>({ pull, cancel }, { highWaterMark: 0 });
  return { kind: "stream", stream, length, upload };
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
