/** Stores the outcome of a request with an idempotency name, for later requests of that name (once.ts). */
import type { KeyOutcome } from "../durable-objects/idempotency-protocol.ts";
import type { Ask } from "./ask.ts";
import type { Caller } from "./auth.ts";
import { answerKey } from "./results/stored-answer.ts";
import type { Fingerprint } from "./fingerprint.ts";
import type { NamedRequest, Once } from "./once.ts";
import type { Answer, RunEnd } from "./run.ts";

/** Maximum size of an origin's own error that is replayed, bytes. */
const ERROR_BYTES_MAX = 64 * 1024;

/** Uses the caller's own path: the same ask through another dialect is a different request. */
export function named(request: Request, { method, path, query, headers, body }: Ask): NamedRequest {
  const bytes = body.kind === "bytes" ? body.bytes : body.kind === "none" ? new Uint8Array() : null;
  const { pathname } = new URL(request.url);
  return { method, path: pathname, query: path + query, contentType: headers.get("content-type"), body: bytes };
}

export const keepMsOf = (ask: Ask): number => ask.delivery.lifeMs;

/** Where the cache stores the answer. */
export function answerAt(caller: Caller, fingerprint: Fingerprint): KeyOutcome {
  return { kind: "answer", keys: fingerprint.cacheable ? [answerKey(caller.tenant, fingerprint.key)] : [] };
}

/** Called when the run of a named request ends: stores what it made for later requests of that name. */
export async function settleRun(
  once: Once,
  caller: Caller,
  ask: Ask,
  fingerprint: Fingerprint,
  end: RunEnd,
): Promise<void> {
  const isMade = end.state === "succeeded" && end.status !== null && end.status < 400 && !ask.directives.noStore;
  const names = [once.keepAs, fingerprint.cacheable ? fingerprint.key : null].filter((key) => key !== null);
  const keys = names.map((key) => answerKey(caller.tenant, key));
  if (isMade && keys.length > 0) await once.settle({ kind: "answer", keys }, keepMsOf(ask));
  // Otherwise it is an origin's own error, which `settleError` stores with its answer.
  else if (isMade || end.status === null || !isTold(end.status) || end.state !== "failed") await once.drop();
}

/** Whether an origin's own error is replayed. One that a retry may avoid is not. */
function isTold(status: number): boolean {
  return status < 500 && status !== 429;
}

/** Stores an origin's own error if it is small enough to be replayed; otherwise frees the name. */
export async function settleError(once: Once, { status, headers, body }: Answer, keepMs: number): Promise<void> {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body instanceof Uint8Array ? body : null;
  if (!isTold(status) || bytes === null || bytes.byteLength > ERROR_BYTES_MAX) return once.drop();
  const text = new TextDecoder().decode(bytes);
  await once.settle({ kind: "error", status, contentType: headers.get("content-type"), body: text }, keepMs);
}
