/** Reads the caller's body within bounds: kept up to a limit; beyond it, it goes its way without being kept. */
import { Room } from "./buffers.ts";
import { startsAsObject } from "./fields.ts";
import { type Refusal, isRefusal, refuse } from "../refusal.ts";
import { concat } from "./bytes.ts";
import type { Spooled } from "./spool.ts";
import { unlessLate } from "../run/until.ts";

const MIB = 1024 * 1024;
/** Bodies up to this are kept in memory: for the fingerprint, and so that a try can be repeated. */
export const BUFFERED_BYTES_MAX = 8 * MIB;
/** Longest silence of a caller that sends a body. */
const SILENCE_MS = 30_000;
/** Longest time that a body which is kept in memory may take to come, however steadily. */
const COMING_MS_MAX = 300_000;
/** A body that is refused for its length, and not longer than this, is read to its end. */
const DRAINED_BYTES_MAX = 16 * MIB;
/** Longest that its refusal waits for that. */
const DRAINED_MS_MAX = 2_000;

export type Body =
  | { kind: "none" }
  | { kind: "bytes"; bytes: Uint8Array<ArrayBuffer>; room: Room }
  /** Lies in R2 while the request lasts: can be sent again, has no fingerprint. */
  | Spooled
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
  /** Called when no more of it comes although it is not whole: the call that it goes into must be ended. */
  broken: () => void;
}

export interface BodyLimits {
  /** Most bytes that are taken. */
  max: number;
  /** Whose body it is; null before that is known. */
  tenant?: string | null;
  /** Where a body goes that is larger than what is kept; without it, or where it says null, such a one goes through. */
  spool?: ((incoming: Incoming) => Promise<Body | Refusal | null>) | null;
}

/** Whoever calls this needs the body even when its caller goes, and lets go of it. */
export function hold(body: Body): void {
  if (body.kind === "bytes") body.room.stay();
  if (body.kind === "spooled") body.hold();
}

/** What a request has of a body is no longer needed by whoever calls this. */
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
  // What says its length ends there: nothing has to be waited for to know it.
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

/** Reads a body that nobody wants to its end, or for so long: a caller that still sends hears no refusal. */
export async function drain({ body }: Request, ms: number): Promise<void> {
  const read = body?.pipeTo(new WritableStream()).catch(() => undefined);
  await unlessLate(Promise.resolve(read), Date.now() + ms);
}

export function tooSlow(ms: number): Refusal {
  const detail = `did not arrive: it took longer than ${ms / 1000} s`;
  return refuse("invalid_field", { param: "body", facts: { detail } });
}

export function noRoom(): Refusal {
  return refuse("queue_full", { facts: { detail: "too many large bodies are under way" }, retryAfterMs: 1000 });
}

function tooLarge(max: number): Refusal {
  return refuse("body_too_large", { facts: { max_mb: max / 1e6 } });
}

function contentLength(request: Request): number | null | Refusal {
  const header = request.headers.get("content-length");
  if (header === null) return null;
  if (!/^\d{1,15}$/.test(header))
    return refuse("invalid_field", { param: "Content-Length", facts: { detail: "is not a number" } });
  return Number(header);
}

/** A body as it comes from the caller. */
export class Incoming {
  readonly length: number | null;
  readonly max: number;
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  /** What was read before it was known where the body goes, and its share of the buffers. */
  readonly kept: Uint8Array[] = [];
  readonly room: Room;
  #bytes = 0;

  constructor(body: ReadableStream<Uint8Array>, length: number | null, max: number, room: Room) {
    this.reader = body.getReader();
    this.room = room;
    this.length = length;
    this.max = max;
  }

  /** That have come so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The next bytes; null at the end. */
  async read(): Promise<Uint8Array | null | Refusal> {
    const read = await this.#next();
    if (isRefusal(read)) return read;
    if (read.done) return null;
    this.#bytes += read.value.byteLength;
    return this.#bytes > this.max ? tooLarge(this.max) : read.value;
  }

  /** Keeps a piece; false when the buffers are full. */
  async keep(chunk: Uint8Array): Promise<boolean> {
    this.kept.push(chunk);
    // Bytes now, text and parsed JSON later.
    return this.room.growSoon(3 * this.#bytes);
  }

  /** Whether it starts as a JSON object does; one that has not said within what is kept counts as one. */
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

  /** Reads no more of it. */
  async stop(refusal: Refusal): Promise<Refusal> {
    this.room.free();
    // The refusal is the answer, whatever the stream says to its end.
    await this.reader.cancel().catch(() => undefined);
    return refusal;
  }

  async #next(): Promise<ReadableStreamReadResult<Uint8Array> | Refusal> {
    let timer: number | null = null;
    const silence = new Promise<Refusal>((resolve) => {
      const facts = { detail: `did not arrive: ${SILENCE_MS / 1000} s without a byte` };
      timer = setTimeout(() => resolve(refuse("invalid_field", { param: "body", facts })), SILENCE_MS);
    });
    try {
      return await Promise.race([this.reader.read(), silence]);
    } catch {
      // The caller is gone, or what came is no HTTP (locally; the platform's edge answers that itself).
      return refuse("invalid_field", { param: "body", facts: { detail: "did not arrive whole" } });
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * The rest of a body after what was read of it. Where it breaks off, or grows beyond what is taken, it neither ends nor
 * fails: the runtime ends a body in chunks that fails like one that is whole, and the origin would run what it has got.
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
  // Nothing is read ahead: whose turn it is tells who is slow.
  const stream = new ReadableStream<Uint8Array>({ pull, cancel }, { highWaterMark: 0 });
  return { kind: "stream", stream, length, upload };
}
