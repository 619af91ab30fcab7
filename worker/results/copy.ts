/**
 * Collects a stream for storage while it is sent to the caller: a small one in memory until its end, a large image,
 * sound or film in R2 by multipart upload. Memory and time are bounded; when they are exceeded, only the storing is
 * given up.
 */
import type { Ask } from "../ask.ts";
import { concat } from "../body/bytes.ts";
import { Room } from "../body/buffers.ts";
import { PART_WRITER_BYTES, PART_BYTES } from "./part-writer.ts";
import { isJson } from "../body/fields.ts";
import type { ResultUpload } from "./upload.ts";
import { MediaScan, mediaTypeOf } from "./media.ts";
import { type Head, isMedia, judge } from "./pieces.ts";
import type { Detail } from "../details.ts";
import type { Unkept } from "../run.ts";
import { unlessLate } from "../run/until.ts";

/** Limit for an answer that is not media. It is not uploaded in parts, and JSON is not collected at all. */
const PLAIN_BYTES_MAX = 16 * 1024 * 1024;
/** The largest result: a tenth of the parts that R2 accepts. */
const LAID_BYTES_MAX = 1_000 * PART_BYTES;
/** Longest time a slow store may hold back the stream, ms. */
const STORE_MS_MAX = 5_000;

export type Copied = { kind: "bytes"; bytes: Uint8Array<ArrayBuffer> } | Laid;

/** All bytes have been written to the upload, which is not completed yet. */
export interface Laid {
  kind: "laid";
  laying: ResultUpload;
  bytes: number;
  /** Hex. */
  sha256: string;
}

export interface Copying {
  ask: Ask;
  head: Head;
  requestId: string;
  /** Starts the upload of a large result; null: nothing is to be stored. */
  lay: ((type: string) => ResultUpload) | null;
  /** Keeps work alive that outlives the stream. */
  later: (work: Promise<unknown>) => void;
}

export class Copy {
  readonly #copying: Copying;
  /** Only for images, sounds and films. */
  readonly #scan: MediaScan | null;
  readonly #heldMax: number;
  readonly #room = new Room();
  #held: Uint8Array[] = [];
  #total = 0;
  #laid: { laying: ResultUpload; digest: DigestStream; writer: WritableStreamDefaultWriter<ArrayBufferView> } | null =
    null;
  #over: boolean;
  #unkept: Unkept | null = null;

  constructor(copying: Copying) {
    const { head, lay } = copying;
    this.#copying = copying;
    this.#scan = isMedia(head) ? new MediaScan() : null;
    this.#heldMax = this.#scan === null ? PLAIN_BYTES_MAX : PART_BYTES;
    this.#over = lay === null || isJson(mediaTypeOf(head.headers));
  }

  /** Inspects received bytes, whether or not they are stored. */
  see(chunk: Uint8Array): void {
    this.#scan?.push(chunk);
  }

  /** What is wrong with the bytes so far if they are the complete answer; null: nothing. */
  get problem(): Detail | null {
    const judged = this.#judged();
    return "problem" in judged ? judged.problem : null;
  }

  /** Why storing was given up; null if it was not. */
  get unkept(): Unkept | null {
    return this.#unkept;
  }

  /** Stores bytes; never throws. */
  async keep(chunk: Uint8Array): Promise<void> {
    if (this.#over) return;
    this.#total += chunk.byteLength;
    try {
      if (this.#total <= this.#heldMax) this.#hold(chunk);
      else if (this.#scan === null || this.#total > LAID_BYTES_MAX) this.#giveUp("too_large");
      else if ((await unlessLate(this.#lay(chunk), Date.now() + STORE_MS_MAX)) === null)
        this.#giveUp("store_failed", "the store is too slow");
    } catch (error) {
      this.#giveUp("store_failed", String(error));
    }
  }

  /**
   * Called after the stream has ended properly. Returns what was collected, or null when there is nothing or it may be
   * incomplete. The caller must call `free` afterwards.
   */
  async take(): Promise<Copied | null> {
    const judged = this.#judged();
    if ("problem" in judged || judged.type === null) this.drop();
    if (this.#over) return null;
    this.#over = true;
    if (this.#laid === null) return { kind: "bytes", bytes: concat(this.#held, this.#total) };
    const { laying, digest, writer } = this.#laid;
    await writer.close();
    return { kind: "laid", laying, bytes: this.#total, sha256: new Uint8Array(await digest.digest).toHex() };
  }

  /** Discards everything. */
  drop(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#laid !== null) this.#copying.later(this.#laid.laying.deposit.abort());
    this.free();
  }

  free(): void {
    this.#held = [];
    this.#room.free();
  }

  #judged(): ReturnType<typeof judge> {
    const { ask, head } = this.#copying;
    return this.#scan === null ? { type: "" } : judge(ask, head, this.#scan.end());
  }

  #hold(chunk: Uint8Array): void {
    this.#held.push(chunk);
    // The chunks, and later their concatenation.
    if (!this.#room.grow(2 * this.#total)) this.#giveUp("no_room");
  }

  async #lay(chunk: Uint8Array): Promise<true> {
    if (this.#laid === null && !(await this.#begin())) return true;
    await this.#write(chunk);
    return true;
  }

  async #begin(): Promise<boolean> {
    if (!(await this.#room.growSoon(PART_WRITER_BYTES))) this.#giveUp("no_room");
    const { lay, head } = this.#copying;
    if (this.#over || lay === null) {
      // It may have been given up while waiting.
      this.free();
      return false;
    }
    const laying = lay(this.#scan?.type ?? mediaTypeOf(head.headers) ?? "");
    const digest = new crypto.DigestStream("SHA-256");
    this.#laid = { laying, digest, writer: digest.getWriter() };
    for (const chunk of this.#held.splice(0)) await this.#write(chunk);
    return true;
  }

  async #write(chunk: Uint8Array): Promise<void> {
    await this.#laid?.writer.write(chunk);
    await this.#laid?.laying.deposit.write(chunk);
  }

  #giveUp(unkept: Unkept, why: string = unkept): void {
    if (this.#over) return;
    this.#unkept = unkept;
    console.warn(JSON.stringify({ event: "answer_not_stored", request: this.#copying.requestId, why }));
    this.drop();
  }
}
