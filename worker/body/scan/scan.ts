/**
 * What checks a body while it passes, in bounded memory, for bodies that are too large to be kept: the same rules, the
 * same judgement and the same refusals as for fields that are there as a whole.
 */
import { isJson, MULTIPART, URLENCODED } from "../fields.ts";
import type { Refusal } from "../../refusal.ts";
import type { Rule } from "../../services/rules.ts";
import { JsonScan } from "./json.ts";
import { MultipartScan } from "./multipart.ts";
import { UrlencodedScan } from "./urlencoded.ts";

export interface Scan {
  /** It will be refused, whatever comes; which refusal it is stands at the end. */
  readonly failed: boolean;
  /** The next bytes of the body. */
  push(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** The whole body was pushed. */
  end(): Promise<Refusal | null>;
  /** Values of the fields that were to be kept: of JSON's top-level members the last of each name, of a form a list. */
  readonly kept: Record<string, unknown>;
}

/** Null for a body that is neither JSON nor a form. `keep`: top-level fields whose plain values are kept. */
export function scanOf(mediaType: string | null, contentType: string, rules: Rule[], keep: string[]): Scan | null {
  if (isJson(mediaType)) return new JsonScan(rules, keep);
  if (mediaType === MULTIPART) return new MultipartScan(rules, keep, contentType);
  return mediaType === URLENCODED ? new UrlencodedScan(rules, keep, contentType) : null;
}

/** Of a body that no rule asks about. */
export class NoScan implements Scan {
  readonly failed = false;
  readonly kept = {};

  async push(): Promise<void> {}

  async end(): Promise<null> {
    return null;
  }
}
