/**
 * Hands an origin's bytes to the caller chunk by chunk, with a bounded queue between the two: the origin is read as
 * fast as it sends until the queue is full, so that its end (and the slot's) does not wait for a slow caller. A copy
 * is gathered for the store while it is small enough. Our own pump, because `tee` couples speeds and a body handed
 * over natively hides both ends from us.
 */
import { Room } from "./buffers.ts";
import { concat } from "./body.ts";
import type { Silence } from "./silence.ts";

/** Bytes on the way to one caller; only beyond them a slow caller holds the origin back. */
const QUEUE_BYTES_MAX = 1024 * 1024;
/** A caller that takes nothing for so long is cut. */
const STALL_MS = 30_000;
/** Answers longer than this pass through without being kept. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

export interface PumpEnd {
  /** The origin's answer ended; false: it was cut. */
  complete: boolean;
  /** All of it, when it was small enough to keep. */
  bytes: Uint8Array<ArrayBuffer> | null;
  /** Bytes that came, and of them those that the caller got or is about to get. */
  total: number;
  handed: number;
}

export interface Pump {
  readable: ReadableStream<Uint8Array>;
  /** The origin's end. */
  ended: Promise<PumpEnd>;
  /** The caller's end. */
  drained: Promise<void>;
}

type Source = ReadableStreamDefaultReader<Uint8Array>;

export interface Flow {
  source: Source;
  /** Chunks that were read already. */
  first: Uint8Array[];
  /** The body's length when the origin said it. */
  length: number | null;
  silence: Silence;
  /** Whether the bytes are gathered as well. */
  keep: boolean;
}

export function pump(flow: Flow): Pump {
  const { length } = flow;
  const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(length);
  const queue = new Queue(writable.getWriter());
  const ended = read(flow, queue);
  return { readable, ended, drained: queue.drained };
}

async function read({ source, first, length, silence, keep }: Flow, queue: Queue): Promise<PumpEnd> {
  const room = new Room();
  let kept: Uint8Array[] | null = keep ? [] : null;
  let total = 0;
  const take = async (chunk: Uint8Array): Promise<void> => {
    total += chunk.byteLength;
    if (kept !== null && total <= KEPT_BYTES_MAX && room.grow(2 * total)) kept.push(chunk);
    else {
      kept = null;
      room.free();
    }
    // While a slow caller holds the origin back, the origin's silence is not its own.
    silence.stop();
    await queue.put(chunk);
    silence.heard();
  };
  try {
    for (const chunk of first) await take(chunk);
    for (;;) {
      const { done, value } = await source.read();
      if (done) break;
      await take(value);
    }
    if (length !== null && total !== length) throw new Error("shorter than its length");
    queue.end();
    return { complete: true, bytes: kept === null ? null : concat(kept, total), total, handed: queue.handed };
  } catch (error) {
    const { handed } = queue;
    queue.cut(error);
    return { complete: false, bytes: null, total, handed };
  } finally {
    silence.stop();
    room.free();
  }
}

/** Chunks on their way to the caller. Once broken it takes everything and hands on nothing. */
class Queue {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly drained: Promise<void>;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #written = 0;
  #over: "open" | "ended" | "broken" = "open";
  #wakeWriter: () => void = () => undefined;
  #wakeReader: () => void = () => undefined;

  constructor(writer: WritableStreamDefaultWriter<Uint8Array>) {
    this.#writer = writer;
    this.drained = this.#write();
  }

  get handed(): number {
    return this.#written + this.#bytes;
  }

  get isFull(): boolean {
    return this.#over === "open" && this.#bytes >= QUEUE_BYTES_MAX;
  }

  /** Resolves when there is room again, or nobody takes it any more. */
  async put(chunk: Uint8Array): Promise<void> {
    if (this.#over !== "open") return;
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    this.#wakeWriter();
    while (this.isFull) await new Promise<void>((resolve) => (this.#wakeReader = resolve));
  }

  end(): void {
    if (this.#over === "open") this.#over = "ended";
    this.#wakeWriter();
  }

  /** The answer broke off: the caller must see it, so the connection is cut. */
  cut(error: unknown): void {
    this.#break();
    this.#writer.abort(error).catch(() => undefined);
  }

  #break(): void {
    this.#over = "broken";
    this.#chunks = [];
    this.#bytes = 0;
    this.#wakeReader();
    this.#wakeWriter();
  }

  async #write(): Promise<void> {
    try {
      for (;;) {
        const chunk = this.#chunks.shift();
        if (chunk !== undefined) {
          await stalled(this.#writer.write(chunk));
          this.#bytes = Math.max(0, this.#bytes - chunk.byteLength);
          this.#written += chunk.byteLength;
          this.#wakeReader();
        } else if (this.#over === "open") {
          await new Promise<void>((resolve) => (this.#wakeWriter = resolve));
        } else break;
      }
      if (this.#over === "ended") await stalled(this.#writer.close());
    } catch (error) {
      this.#break();
      await this.#writer.abort(error).catch(() => undefined);
    }
  }
}

async function stalled(write: Promise<void>): Promise<void> {
  let timer: number | null = null;
  const stall = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("the caller takes nothing")), STALL_MS);
  });
  try {
    await Promise.race([write, stall]);
  } finally {
    clearTimeout(timer);
  }
}
