/**
 * What is kept of a stream while its caller gets it: a small one lies in memory until its end, a large image, sound or
 * film goes to R2 part by part. Its memory and its time are bounded, and where they do not suffice the store alone
 * goes without.
 */
import type { Ask } from "../ask.ts";
import { concat } from "../body/bytes.ts";
import { Room } from "../body/buffers.ts";
import { DEPOSIT_BYTES, PART_BYTES } from "./deposit.ts";
import { isJson } from "../body/fields.ts";
import type { Laying } from "./lay.ts";
import { MediaScan, mediaTypeOf } from "./media.ts";
import { type Head, isMedia, judge } from "./pieces.ts";
import { unlessLate } from "../run/until.ts";

/** What is kept of an answer that is neither image nor sound: it is not laid down, and not read as JSON in pieces. */
const PLAIN_BYTES_MAX = 16 * 1024 * 1024;
/** The largest result: R2 takes ten times as many parts. */
const LAID_BYTES_MAX = 1_000 * PART_BYTES;
/** Longest that a slow store holds a stream back. */
const STORE_MS_MAX = 5_000;

export type Copied = { kind: "bytes"; bytes: Uint8Array<ArrayBuffer> } | Laid;

/** All of it lies in the deposit, which is not complete yet. */
export interface Laid {
  kind: "laid";
  laying: Laying;
  bytes: number;
  /** Hex. */
  sha256: string;
}

export interface Copying {
  ask: Ask;
  head: Head;
  requestId: string;
  /** Where a large one is laid; null: nothing of it is to be kept. */
  lay: ((type: string) => Laying) | null;
  /** Holds work that outlives the stream. */
  later: (work: Promise<unknown>) => void;
}

export class Copy {
  readonly #copying: Copying;
  /** Of images, sounds and films. */
  readonly #scan: MediaScan | null;
  readonly #heldMax: number;
  readonly #room = new Room();
  #held: Uint8Array[] = [];
  #total = 0;
  #laid: { laying: Laying; digest: DigestStream; writer: WritableStreamDefaultWriter<ArrayBufferView> } | null = null;
  #over: boolean;

  constructor(copying: Copying) {
    const { head, lay } = copying;
    this.#copying = copying;
    this.#scan = isMedia(head) ? new MediaScan() : null;
    this.#heldMax = this.#scan === null ? PLAIN_BYTES_MAX : PART_BYTES;
    this.#over = lay === null || isJson(mediaTypeOf(head.headers));
  }

  /** Looks at bytes that came, kept or not. */
  see(chunk: Uint8Array): void {
    this.#scan?.push(chunk);
  }

  /** What is wrong with what was seen, if it is all that comes; null: nothing. */
  get problem(): string | null {
    const judged = this.#judged();
    return "problem" in judged ? judged.problem : null;
  }

  /** Keeps bytes; never fails. */
  async keep(chunk: Uint8Array): Promise<void> {
    if (this.#over) return;
    this.#total += chunk.byteLength;
    try {
      if (this.#total <= this.#heldMax) this.#hold(chunk);
      else if (this.#scan === null || this.#total > LAID_BYTES_MAX) this.#giveUp("it is too large");
      else if ((await unlessLate(this.#lay(chunk), Date.now() + STORE_MS_MAX)) === null)
        this.#giveUp("the store is too slow");
    } catch (error) {
      this.#giveUp(String(error));
    }
  }

  /** The stream ended well: what was kept of it; null: nothing, or what nobody knows to be all. `free` comes after it. */
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

  /** Nothing of it is kept. */
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
    // The pieces, and later all of them in one.
    if (!this.#room.grow(2 * this.#total)) this.#giveUp("no room in memory");
  }

  async #lay(chunk: Uint8Array): Promise<true> {
    if (this.#laid === null && !(await this.#begin())) return true;
    await this.#write(chunk);
    return true;
  }

  async #begin(): Promise<boolean> {
    if (!(await this.#room.growSoon(DEPOSIT_BYTES))) this.#giveUp("no room in memory");
    const { lay, head } = this.#copying;
    if (this.#over || lay === null) {
      // It may have been given up while it waited.
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

  #giveUp(why: string): void {
    if (this.#over) return;
    console.warn(JSON.stringify({ event: "unkept", request: this.#copying.requestId, why }));
    this.drop();
  }
}
