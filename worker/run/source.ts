/**
 * Reads a body in large chunks: the platform's plain reader returns 4 KiB at a time, and the overhead per chunk
 * (queues, timers, digests) exceeds the cost of its bytes.
 */

const PIECE_BYTES = 64 * 1024;

export class Source {
  readonly #reader: ReadableStreamBYOBReader;
  #buffer: Uint8Array<ArrayBuffer> | null = null;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader({ mode: "byob" });
  }

  /** Returns bytes as soon as some have arrived; null at the end. */
  async read(): Promise<Uint8Array | null> {
    const { done, value } = await this.#reader.read(this.#buffer ?? new Uint8Array(PIECE_BYTES));
    if (done) return null;
    this.#buffer = null;
    if (value.byteLength >= PIECE_BYTES / 2) return value;
    // Copied, so that a small chunk does not retain a large buffer while it waits.
    this.#buffer = new Uint8Array(value.buffer);
    return value.slice();
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }
}
