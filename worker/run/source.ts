/**
 * A body that is read in large pieces: the platform's plain reader gives 4 KiB at a time, and what is done for each
 * piece (queues, timers, digests) costs more than the bytes of it.
 */

const PIECE_BYTES = 64 * 1024;

export class Source {
  readonly #reader: ReadableStreamBYOBReader;
  #buffer: Uint8Array<ArrayBuffer> | null = null;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader({ mode: "byob" });
  }

  /** What has come, as soon as something has; null at the end. */
  async read(): Promise<Uint8Array | null> {
    const { done, value } = await this.#reader.read(this.#buffer ?? new Uint8Array(PIECE_BYTES));
    if (done) return null;
    this.#buffer = null;
    if (value.byteLength >= PIECE_BYTES / 2) return value;
    // A small piece must not hold a large buffer for as long as it waits.
    this.#buffer = new Uint8Array(value.buffer);
    return value.slice();
  }

  async cancel(): Promise<void> {
    await this.#reader.cancel();
  }
}
