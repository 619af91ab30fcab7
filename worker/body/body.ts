/** Reads the caller's body within limits. Small bodies are buffered; larger ones are spooled or streamed through. */
import { Room } from "./buffers.ts";
import { startsAsObject } from "./fields.ts";
import { detail } from "../details.ts";
import { invalid, type Refusal, isRefusal, refuse } from "../refusal.ts";
import { concat } from "./bytes.ts";
import type { Spooled } from "./spool.ts";
import { unlessLate } from "../run/until.ts";

export const MIB = 1024 * 1024;
/** Bodies up to this size are buffered in memory, for the fingerprint and so that a try can be repeated. */
export const BUFFERED_BYTES_MAX = 8 * MIB;
/** Longest silence of a caller that is sending a body. */
const SILENCE_MS = 30_000;
/** Longest time that a buffered body may take to arrive, however steadily. */
const COMING_MS_MAX = 300_000;
/** A refused body whose declared length is at most this is read to its end. */
const DRAINED_BYTES_MAX = 16 * MIB;
/** Longest that the refusal waits for that. */
const DRAINED_MS_MAX = 2_000;

export type Body =
  | { kind: "none" }
  | { kind: "bytes"; bytes: Uint8Array<ArrayBuffer>; room: Room }
  /** Stored in R2 for the duration of the request: can be sent again, has no fingerprint. */
  | Spooled
  /** Passes through once: cannot be repeated, has no fingerprint. */
  | { kind: "stream"; stream: ReadableStream<Uint8Array>; length: number | null; upload: Upload };

/** Progress of a body that passes through. */
export interface Upload {
  /** Set when the body turned out larger than the service accepts. */
  refusal: Refusal | null;
  /** Which side is expected to act: the caller to send more, or the origin to read or answer. */
  turn: "caller" | "origin";
  /** Called when the turn changes. */
  turned: () => void;
  /** Called when an incomplete body stops. The origin call that it feeds must be aborted. */
  broken: () => void;
}

export interface BodyLimits {
  /** Maximum size in bytes. */
  max: number;
  /** The tenant that the buffers are charged to; null before it is known. */
  tenant?: string | null;
  /** Called for a body that is too large to buffer. Without it, or when it returns null, the body passes through. */
  spool?: ((incoming: Incoming) => Promise<Body | Refusal | null>) | null;
}

/** Adds a holder: the body is kept even if the caller disconnects, until `letGo` is called. */
export function hold(body: Body): void {
  if (body.kind === "bytes") body.room.stay();
  if (body.kind === "spooled") body.hold();
}

/** Releases one holder's claim on a body. */
export function letGo(body: Body): void {
  if (body.kind === "bytes") body.room.free();
  if (body.kind === "spooled") body.letGo();
}

export async function readBody(
  request: Request,
  { max, tenant = null, spool = null }: BodyLimits,
): Promise<Body | Refusal> {
  const length = contentLength(request);
  if (isRefusal(length)) return length;
  if (length !== null && length > max) {
    if (length <= DRAINED_BYTES_MAX) await drain(request, DRAINED_MS_MAX);
    return tooLarge(max);
  }
  if (request.body === null || length === 0) return { kind: "none" };
  const incoming = new Incoming(
    request.body as ReadableStream<Uint8Array>,
    length,
    max,
    new Room(request.signal, tenant),
  );
  const onward = async (): Promise<Body | Refusal> => (await spool?.(incoming)) ?? passThrough(incoming);
  if (length !== null && length > BUFFERED_BYTES_MAX) return onward();
  const until = Date.now() + COMING_MS_MAX;
  // The body ends at its declared length, without waiting for the end of the stream.
  while (incoming.bytes !== length) {
    const chunk = await incoming.read();
    if (isRefusal(chunk)) return incoming.stop(chunk);
    if (chunk === null) break;
    if (Date.now() > until) return incoming.stop(tooSlow(COMING_MS_MAX));
    if (!(await incoming.keep(chunk))) return incoming.stop(noRoom());
    if (incoming.bytes > BUFFERED_BYTES_MAX) return onward();
  }
  const { bytes, room } = incoming;
  if (bytes === 0) return { kind: "none" };
  return { kind: "bytes", bytes: concat(incoming.kept, bytes), room };
}

/** Reads an unwanted body to its end, for `ms` at most: a client that is still sending does not read a refusal. */
export async function drain({ body }: Request, ms: number): Promise<void> {
  const read = body?.pipeTo(new WritableStream()).catch(() => undefined);
  await unlessLate(Promise.resolve(read), Date.now() + ms);
}

export function tooSlow(ms: number): Refusal {
  return invalid("body", "late_after", { s: ms / 1000 });
}

export function noRoom(): Refusal {
  return refuse("queue_full", { facts: detail("large_bodies"), retryAfterMs: 1000 });
}

function tooLarge(max: number): Refusal {
  return refuse("body_too_large", { facts: { max_mb: max / 1e6 } });
}

function contentLength(request: Request): number | null | Refusal {
  const header = request.headers.get("content-length");
  if (header === null) return null;
  if (!/^\d{1,15}$/.test(header)) return invalid("Content-Length", "integer");
  return Number(header);
}

/** A body as it arrives from the caller. */
export class Incoming {
  readonly length: number | null;
  readonly max: number;
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  /** What was read before it was decided how the body is handled, and its share of the buffers. */
  readonly kept: Uint8Array[] = [];
  readonly room: Room;
  #bytes = 0;

  constructor(body: ReadableStream<Uint8Array>, length: number | null, max: number, room: Room) {
    this.reader = body.getReader();
    this.room = room;
    this.length = length;
    this.max = max;
  }

  /** Bytes received so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Returns the next bytes, or null at the end. */
  async read(): Promise<Uint8Array | null | Refusal> {
    const read = await this.#next();
    if (isRefusal(read)) return read;
    if (read.done) return null;
    this.#bytes += read.value.byteLength;
    return this.#bytes > this.max ? tooLarge(this.max) : read.value;
  }

  /** Buffers a chunk. Returns false when the buffers are full. */
  async keep(chunk: Uint8Array): Promise<boolean> {
    this.kept.push(chunk);
    // The bytes now, plus the text and the parsed JSON later.
    return this.room.growSoon(3 * this.#bytes);
  }

  /** Whether the body starts like a JSON object. If that is still undecided at the buffer limit, it counts as one. */
  async startsAsObject(): Promise<boolean | Refusal> {
    let told: boolean | null = null;
    for (const piece of this.kept) told ??= startsAsObject(piece);
    while (told === null && this.#bytes <= BUFFERED_BYTES_MAX) {
      const chunk = await this.read();
      if (isRefusal(chunk)) return chunk;
      if (chunk === null) return false;
      if (!(await this.keep(chunk))) return noRoom();
      told = startsAsObject(chunk);
    }
    return told ?? true;
  }

  /** Stops reading and frees the buffers. */
  async stop(refusal: Refusal): Promise<Refusal> {
    this.room.free();
    // The refusal is the answer, even if canceling the stream fails.
    await this.reader.cancel().catch(() => undefined);
    return refusal;
  }

  async #next(): Promise<ReadableStreamReadResult<Uint8Array> | Refusal> {
    let timer: number | null = null;
    const silence = new Promise<Refusal>((resolve) => {
      timer = setTimeout(() => resolve(invalid("body", "stalled", { s: SILENCE_MS / 1000 })), SILENCE_MS);
    });
    try {
      return await Promise.race([this.reader.read(), silence]);
    } catch {
      // The caller disconnected, or sent malformed HTTP (locally only: the platform's edge rejects that itself).
      return invalid("body", "incomplete");
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * Streams the body through, starting with what was read already. If it breaks off or exceeds the limit, the stream
 * neither ends nor errors: the runtime terminates a failed chunked body as if it were complete, and the origin would
 * run what it received.
 */
function passThrough({ reader, kept, bytes, length, max, room }: Incoming): Body {
  room.free();
  const upload: Upload = { refusal: null, turn: "origin", turned: () => undefined, broken: () => undefined };
  const turn = (whose: Upload["turn"]): void => {
    upload.turn = whose;
    upload.turned();
  };
  const breakOff = (): Promise<never> => {
    upload.broken();
    return new Promise(() => undefined);
  };
  let total = bytes;
  const more = async (): Promise<Uint8Array | null> => {
    turn("caller");
    const read = await reader.read().catch(() => null);
    turn("origin");
    if (read === null) return breakOff();
    if (read.done) return null;
    total += read.value.byteLength;
    return read.value;
  };
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const chunk = kept.shift() ?? (await more());
    if (chunk === null) controller.close();
    else if (total <= max) controller.enqueue(chunk);
    else {
      upload.refusal = tooLarge(max);
      await breakOff();
    }
  };
  const cancel = (reason: unknown): Promise<void> => reader.cancel(reason);
  // No read-ahead, so that `turn` shows which side is slow.
  const stream = new ReadableStream<Uint8Array>({ pull, cancel }, { highWaterMark: 0 });
  return { kind: "stream", stream, length, upload };
}
