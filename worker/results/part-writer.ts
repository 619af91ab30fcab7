/** An R2 object written by multipart upload: it becomes visible as a whole or not at all. */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { repeated } from "./repeated.ts";

const MIB = 1024 * 1024;
/** R2 requires parts of equal size, at least 5 MiB; only the last may be smaller. */
export const PART_BYTES = 5 * MIB;
/** Memory of one PartWriter: the part being filled, the part being uploaded, and the incoming chunk. */
export const PART_WRITER_BYTES = 12 * MIB;

/** Longest time R2 may take to assemble the parts, ms. */
const COMPLETION_MS_MAX = 20_000;

export class PartWriter {
  readonly key: string;
  readonly #bucket: R2Bucket;
  readonly #options: R2MultipartOptions;
  readonly #parts: R2UploadedPart[] = [];
  #upload: R2MultipartUpload | null = null;
  #part: Uint8Array<ArrayBuffer> | null = null;
  #spare: Uint8Array<ArrayBuffer> | null = null;
  /** The upload in progress. If it fails, the next call throws its error. */
  #sent: Promise<void> = Promise.resolve();
  #failed: unknown = null;
  #filled = 0;
  #bytes = 0;
  #aborted = false;

  constructor(bucket: R2Bucket, key: string, options: R2MultipartOptions = {}) {
    this.#bucket = bucket;
    this.key = key;
    this.#options = options;
  }

  /** Waits only when a part is full before the previous one has been uploaded. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.byteLength && !this.#aborted;) {
      if (this.#part === null) {
        this.#part = this.#spare ?? new Uint8Array(PART_BYTES);
        this.#spare = null;
      }
      const piece = chunk.subarray(at, at + PART_BYTES - this.#filled);
      this.#part.set(piece, this.#filled);
      this.#filled += piece.byteLength;
      at += piece.byteLength;
      if (this.#filled === PART_BYTES) await this.#send(this.#part);
    }
    this.#bytes += chunk.byteLength;
  }

  /** Completes the upload and returns the number of bytes. */
  async complete(): Promise<number> {
    if (this.#part !== null && this.#filled > 0) await this.#send(this.#part.subarray(0, this.#filled));
    await this.#arrived();
    const completion = repeated(async () => this.#upload?.complete(this.#parts));
    await withTimeout(completion, COMPLETION_MS_MAX).catch((error: unknown) => this.#look(error));
    return this.#bytes;
  }

  async abort(): Promise<void> {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#part = null;
    try {
      await this.#sent;
      if (this.#upload !== null) await withTimeout(this.#upload.abort());
    } catch (error) {
      // R2 aborts an incomplete upload after a week.
      console.warn(JSON.stringify({ event: "deposit_not_aborted", key: this.key, error: String(error) }));
    }
  }

  async #send(part: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#arrived();
    // `abort` may have been called meanwhile.
    if (this.#aborted) return;
    this.#part = null;
    this.#filled = 0;
    this.#sent = withTimeout(this.#put(part)).catch((error: unknown) => {
      this.#failed = error;
    });
  }

  async #put(part: Uint8Array<ArrayBuffer>): Promise<void> {
    const upload = (this.#upload ??= await repeated(() => this.#bucket.createMultipartUpload(this.key, this.#options)));
    this.#parts.push(await repeated(() => upload.uploadPart(this.#parts.length + 1, part)));
    if (part.byteLength === PART_BYTES) this.#spare = part;
  }

  async #arrived(): Promise<void> {
    await this.#sent;
    if (this.#failed !== null) throw this.#failed;
  }

  /** Checks whether a completion succeeded although its reply was lost. */
  async #look(error: unknown): Promise<void> {
    if ((await withTimeout(this.#bucket.head(this.key)))?.size !== this.#bytes) throw error;
  }
}
