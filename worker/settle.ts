/** What a request that has a name came to, as later ones of that name are told (once.ts). */
import type { Made } from "../durable-objects/idempotency-protocol.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import { answerKey } from "./cache.ts";
import type { Fingerprint } from "./fingerprint.ts";
import type { Named, Once } from "./once.ts";
import type { Answer, RunEnd } from "./run.ts";

/** An origin's own error up to this is told again. */
const ERROR_BYTES_MAX = 64 * 1024;

/** By the caller's own path: the same ask by another mouth is another request. */
export function named(request: Request, { method, path, query, headers, body }: Ask): Named {
  const bytes = body.kind === "bytes" ? body.bytes : body.kind === "none" ? new Uint8Array() : null;
  const { pathname } = new URL(request.url);
  return { method, path: pathname, query: path + query, contentType: headers.get("content-type"), body: bytes };
}

export const keepMsOf = (ask: Ask): number => ask.delivery.lifeMs;

/** Where an answer of the cache lies. */
export function answerAt(caller: Caller, print: Fingerprint): Made {
  return { kind: "answer", keys: print.cacheable ? [answerKey(caller.tenant, print.key)] : [] };
}

/** A run has ended that has a name: what it made is told to later ones of it. */
export async function settleRun(once: Once, caller: Caller, ask: Ask, print: Fingerprint, end: RunEnd): Promise<void> {
  const isMade = end.state === "succeeded" && end.status !== null && end.status < 400 && !ask.directives.noStore;
  const names = [once.keepAs, print.cacheable ? print.key : null].filter((key) => key !== null);
  const keys = names.map((key) => answerKey(caller.tenant, key));
  if (isMade && keys.length > 0) await once.settle({ kind: "answer", keys }, keepMsOf(ask));
  // An origin's own error is told with its answer.
  else if (isMade || end.status === null || !isTold(end.status) || end.state !== "failed") await once.drop();
}

/** Of an origin's own errors: what may be better the next time is asked for again. */
function isTold(status: number): boolean {
  return status < 500 && status !== 429;
}

/** An origin's own error, if it is small enough to be told again. */
export async function settleError(once: Once, { status, headers, body }: Answer, keepMs: number): Promise<void> {
  const bytes = body instanceof Uint8Array ? body : null;
  if (!isTold(status) || bytes === null || bytes.byteLength > ERROR_BYTES_MAX) return once.drop();
  const text = new TextDecoder().decode(bytes);
  await once.settle({ kind: "error", status, contentType: headers.get("content-type"), body: text }, keepMs);
}
