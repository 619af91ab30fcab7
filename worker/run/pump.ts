/**
 * Copies an origin's bytes to the caller chunk by chunk, through a bounded queue: the origin is read at full speed
 * until the queue is full, so that its end (and the slot's release) does not wait for a slow caller. The stored copy is
 * fed at the same time. Not `tee`, which couples the readers' speeds, and not a natively passed body, which hides both
 * ends from us.
 */
import type { Room } from "../body/buffers.ts";
import type { Copy } from "../results/copy.ts";
import type { ReadTimeout } from "./read-timeout.ts";
import type { Detail } from "../details.ts";
import type { Source } from "./source.ts";

/** Bytes queued for one caller; a slow caller holds back the origin only beyond this. */
const QUEUE_BYTES_MAX = 1024 * 1024;
/** A caller that reads nothing for this long is cut off. */
const STALL_MS = 30_000;

export interface PumpEnd {
  /** The origin's answer ended properly. False: it was cut off, or its content is invalid. */
  complete: boolean;
  /** What was wrong with an answer that arrived to its end. Null when nothing was, or when it was cut off. */
  problem: Detail | null;
  /** Bytes received, and how many of them the caller got or will get. */
  total: number;
  handed: number;
}

export interface Pump {
  readable: ReadableStream<Uint8Array>;
  /** Resolves when the origin's answer ends. */
  ended: Promise<PumpEnd>;
  /** Resolves when the caller has read everything or is gone. */
  drained: Promise<void>;
}

export interface Flow {
  source: Source;
  /** Chunks that were read already, and their share of the buffers. */
  first: Uint8Array[];
  room: Room;
  /** The body's length, if the origin declared it. */
  length: number | null;
  readTimeout: ReadTimeout;
  /** Collects the bytes to store. Null: nothing is stored or inspected. */
  copy: Copy | null;
}

export function pump(flow: Flow): Pump {
  const { length } = flow;
  const { readable, writable } = length === null ? new IdentityTransformStream() : new FixedLengthStream(length);
  const queue = new Queue(writable.getWriter());
  const ended = read(flow, queue);
  return { readable, ended, drained: queue.drained };
}

/** All bytes arrived, but they are not a complete image or sound. */
class Damaged extends Error {
  readonly problem: Detail;

  constructor(problem: Detail) {
    super("damaged");
    this.problem = problem;
  }
}

async function read({ source, first, room, length, readTimeout, copy }: Flow, queue: Queue): Promise<PumpEnd> {
  let total = 0;
  const take = async (chunk: Uint8Array): Promise<void> => {
    total += chunk.byteLength;
    copy?.see(chunk);
    // The last bytes are sent only once the answer is known to be valid: after that, the caller cannot be told of an
    // error.
    if (total === length) expectSound(copy);
    // While a slow caller holds back the reading, the origin is not the one that is silent.
    readTimeout.stop();
    await Promise.all([queue.put(chunk), copy?.keep(chunk)]);
    readTimeout.reset();
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
    return { complete: false, problem: error instanceof Damaged ? error.problem : null, total, handed };
  } finally {
    readTimeout.stop();
    room.free();
  }
}

function expectSound(copy: Copy | null): void {
  const problem = copy?.problem ?? null;
  if (problem !== null) throw new Damaged(problem);
}

/** Chunks waiting to be sent to the caller. Once broken, it discards everything. */
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

  /** Resolves when there is room again, or when the queue has ended or is broken. */
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

  /** The answer broke off. The connection is cut so that the caller can see it. */
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
