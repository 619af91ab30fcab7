/**
 * Hands an origin's bytes to the caller chunk by chunk, with a bounded queue between the two: the origin is read as
 * fast as it sends until the queue is full, so that its end (and the slot's) does not wait for a slow caller. What is
 * kept of it is fed beside the caller. Our own pump, because `tee` couples speeds and a body handed over natively hides
 * both ends from us.
 */
import type { Room } from "../body/buffers.ts";
import type { Copy } from "../results/copy.ts";
import type { Silence } from "./silence.ts";
import type { Source } from "./source.ts";

/** Bytes on the way to one caller; only beyond them a slow caller holds the origin back. */
const QUEUE_BYTES_MAX = 1024 * 1024;
/** A caller that takes nothing for so long is cut. */
const STALL_MS = 30_000;

export interface PumpEnd {
  /** The origin's answer ended well; false: it was cut, or came to a wrong end. */
  complete: boolean;
  /** What was wrong with an end that came; null: nothing, or none came. */
  problem: string | null;
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

export interface Flow {
  source: Source;
  /** Chunks that were read already, and their share of the buffers. */
  first: Uint8Array[];
  room: Room;
  /** The body's length when the origin said it. */
  length: number | null;
  silence: Silence;
  /** What is kept of it; null: nothing is, and its bytes are not looked at. */
  copy: Copy | null;
}

export function pump(flow: Flow): Pump {
  const { length } = flow;
  const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(length);
  const queue = new Queue(writable.getWriter());
  const ended = read(flow, queue);
  return { readable, ended, drained: queue.drained };
}

/** All of the bytes have come, and are no whole image or sound. */
class Damaged extends Error {}

async function read({ source, first, room, length, silence, copy }: Flow, queue: Queue): Promise<PumpEnd> {
  let total = 0;
  const take = async (chunk: Uint8Array): Promise<void> => {
    total += chunk.byteLength;
    copy?.see(chunk);
    // The last bytes go on only when they are known to be right: a caller who has them all cannot be told any more.
    if (total === length) expectSound(copy);
    // While a slow caller holds the origin back, the origin's silence is not its own.
    silence.stop();
    await Promise.all([queue.put(chunk), copy?.keep(chunk)]);
    silence.heard();
  };
  try {
    for (let chunk = first.shift(); chunk !== undefined; chunk = first.shift()) {
      await take(chunk);
      room.shrink(room.bytes - chunk.byteLength);
    }
    room.free();
    for (;;) {
      const chunk = await source.read();
      if (chunk === null) break;
      await take(chunk);
    }
    if (length === null) expectSound(copy);
    else if (total !== length) throw new Error("shorter than its length");
    queue.end();
    return { complete: true, problem: null, total, handed: queue.handed };
  } catch (error) {
    const { handed } = queue;
    queue.cut(error);
    copy?.drop();
    return { complete: false, problem: error instanceof Damaged ? error.message : null, total, handed };
  } finally {
    silence.stop();
    room.free();
  }
}

function expectSound(copy: Copy | null): void {
  const problem = copy?.problem ?? null;
  if (problem !== null) throw new Damaged(problem);
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
