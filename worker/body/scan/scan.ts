/**
 * Checks a body while it passes, in bounded memory, for bodies too large to buffer. Applies the same rules and gives
 * the same refusals as the check of buffered fields.
 */
import { isJson, MULTIPART, URLENCODED } from "../fields.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { JsonScan } from "./json.ts";
import { MultipartScan } from "./multipart.ts";
import { UrlencodedScan } from "./urlencoded.ts";

export interface Scan {
  /** The body will be refused, whatever follows. `end` returns the refusal. */
  readonly failed: boolean;
  /** Takes the next bytes of the body. */
  push(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Called after the whole body was pushed. Returns the refusal, or null. */
  end(): Promise<Refusal | null>;
  /** Values of the fields to keep: for JSON the last value of each top-level name, for a form a list per name. */
  readonly kept: Record<string, unknown>;
}

/** Returns null for a body that is neither JSON nor a form. `keep`: top-level fields whose plain values are kept. */
export function scanOf(mediaType: string | null, contentType: string, rules: Rule[], keep: string[]): Scan | null {
  if (isJson(mediaType)) return new JsonScan(rules, keep);
  if (mediaType === MULTIPART) return new MultipartScan(rules, keep, contentType);
  return mediaType === URLENCODED ? new UrlencodedScan(rules, keep, contentType) : null;
}

/** For a body that no rule applies to. */
export class NoScan implements Scan {
  readonly failed = false;
  readonly kept = {};

  async push(): Promise<void> {}

  async end(): Promise<null> {
    return null;
  }
}
