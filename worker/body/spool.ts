/**
 * Spools a large body: writes it to R2 while the scan checks every byte. Only a complete body that passes every rule
 * goes on to the line. Each try at an origin reads it from R2 again.
 */
import { withTimeout, shortly } from "../../durable-objects/timeout.ts";
import { type Incoming, noRoom, tooSlow } from "./body.ts";
import { PartWriter, PART_WRITER_BYTES } from "../results/part-writer.ts";
import { randomText } from "../caller/keys.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import type { Scan } from "./scan/scan.ts";

/** Longest time that a spooled body may take to arrive, however steadily. */
const COMING_MS_MAX = 3_600_000;
/** How long sending may continue after the request ends: an origin may answer before it has read the whole body. */
const SENDING_MS_MAX = 25_000;
const ID_LENGTH = 24;

export const INPUTS = "inputs/";

/** Where bodies are spooled. */
export interface SpoolTarget {
  bucket: R2Bucket;
  /** Keeps work alive that may outlive the caller, such as deleting the spooled body. */
  later: (work: Promise<unknown>) => void;
}

/** Reads the body to its end even if it is refused: a client that is still sending does not read a refusal. */
export async function spool(
  incoming: Incoming,
  scan: Scan,
  { bucket, later }: SpoolTarget,
): Promise<Spooled | Refusal> {
  const { promise: gone, resolve: over } = Promise.withResolvers<void>();
  // Registered before the first byte, so that the object is deleted even if the caller hangs up.
  later(gone);
  const deposit = new PartWriter(bucket, INPUTS + randomText(ID_LENGTH));
  try {
    const refusal = (await read(incoming, scan, deposit)) ?? (await scan.end());
    if (refusal === null) return new Spooled(bucket, deposit.key, await deposit.complete(), over);
    await deposit.abort();
    over();
    return await incoming.stop(refusal);
  } catch (error) {
    await deposit.abort();
    over();
    throw error;
  } finally {
    incoming.room.free();
  }
}

async function read(incoming: Incoming, scan: Scan, deposit: PartWriter): Promise<Refusal | null> {
  const until = Date.now() + COMING_MS_MAX;
  const take = async (chunk: Uint8Array): Promise<void> => {
    await scan.push(chunk as Uint8Array<ArrayBuffer>);
    await (scan.failed ? deposit.abort() : deposit.write(chunk));
  };
  for (let chunk = incoming.kept.shift(); chunk !== undefined; chunk = incoming.kept.shift()) await take(chunk);
  incoming.room.shrink(PART_WRITER_BYTES);
  if (!(await incoming.room.growSoon(PART_WRITER_BYTES))) return noRoom();
  for (;;) {
    const chunk = await incoming.read();
    if (isRefusal(chunk)) return chunk;
    if (chunk === null) return null;
    await take(chunk);
    if (Date.now() > until) return tooSlow(COMING_MS_MAX);
  }
}

/** One read of a spooled body on its way to an origin. */
export interface Sending {
  /** Has a known length. */
  stream: ReadableStream<Uint8Array>;
  /** Whether reading from R2 failed before the end. */
  broken: () => boolean;
  /** Stops the read. Called when nothing consumes the stream any more. */
  stop: () => void;
}

export class Spooled {
  readonly kind = "spooled";
  readonly bytes: number;
  readonly #bucket: R2Bucket;
  readonly #key: string;
  readonly #over: () => void;
  readonly #sendings = new Map<AbortController, Promise<void>>();
  #holders = 1;

  /** `over` is called when the object has been deleted. */
  constructor(bucket: R2Bucket, key: string, bytes: number, over: () => void) {
    this.#bucket = bucket;
    this.#key = key;
    this.bytes = bytes;
    this.#over = over;
  }

  /** Adds a holder. Each holder calls `letGo` once; the last call deletes the object. */
  hold(): void {
    this.#holders += 1;
  }

  letGo(): void {
    this.#holders -= 1;
    if (this.#holders === 0) void this.#remove();
  }

  /** Reads the object again; calls `heard` whenever the origin accepts bytes. Null when it cannot be read in time. */
  async send(heard: () => void): Promise<Sending | null> {
    const object = await withTimeout(this.#bucket.get(this.#key)).catch((error: unknown) => this.#lost(error));
    if (object === null) return null;
    const { readable, writable } = new FixedLengthStream(this.bytes);
    const ended = new AbortController();
    let broken = false;
    const sent = pour(object.body, this.bytes, writable, heard, ended.signal).catch((error: unknown) => {
      broken = error instanceof Unread;
      if (broken) this.#lost(error);
    });
    this.#sendings.set(
      ended,
      sent.finally(() => this.#sendings.delete(ended)),
    );
    return { stream: readable, broken: () => broken, stop: () => ended.abort() };
  }

  /** Reads a part of the object. Null when it cannot be read in time. */
  async part(range: { offset: number; length: number }): Promise<ReadableStream<Uint8Array> | null> {
    const object = await withTimeout(this.#bucket.get(this.#key, { range })).catch((error: unknown) =>
      this.#lost(error),
    );
    return object?.body ?? null;
  }

  #lost(error: unknown): null {
    console.error(JSON.stringify({ event: "spool_read_failed", key: this.#key, error: String(error) }));
    return null;
  }

  async #remove(): Promise<void> {
    try {
      await shortly(Promise.all(this.#sendings.values()), SENDING_MS_MAX);
      for (const sending of this.#sendings.keys()) sending.abort();
      await withTimeout(this.#bucket.delete(this.#key));
    } catch (error) {
      // The hourly sweep deletes it within a day.
      console.warn(JSON.stringify({ event: "spool_not_deleted", key: this.#key, error: String(error) }));
    } finally {
      this.#over();
    }
  }
}

/** Reading failed, as opposed to writing. */
class Unread extends Error {}

/** Stops after `bytes` bytes: an error that R2 reports after them does not matter, since the body is complete. */
async function pour(
  from: ReadableStream<Uint8Array>,
  bytes: number,
  to: WritableStream<Uint8Array>,
  heard: () => void,
  ended: AbortSignal,
): Promise<void> {
  const reader = from.getReader();
  const writer = to.getWriter();
  const end = (): void => void writer.abort(new Error("the request is over")).catch(() => undefined);
  ended.addEventListener("abort", end, { once: true });
  try {
    for (let left = bytes; left > 0;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw new Unread(String(error));
      });
      if (done) throw new Unread(`${left} bytes are missing`);
      await writer.write(value);
      heard();
      left -= value.byteLength;
    }
    await Promise.all([writer.close(), reader.cancel()]);
  } catch (error) {
    // Aborting the side that failed rejects; that is expected.
    await Promise.allSettled([writer.abort(error), reader.cancel(error)]);
    throw error;
  }
}
