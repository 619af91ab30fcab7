/**
 * Caches, per isolate, the answer of a public call that fans out to many objects. Callers that arrive while it is being
 * computed poll for it: in Workers a request may not await another request's promise.
 */

/** Polling interval. */
const LOOK_EVERY_MS = 20;
/** A computation that takes longer is presumed dead, for instance because its caller disconnected. */
const MAKING_MS_MAX = 8_000;

/** Wraps `make`. A value is fresh for `freshMs` from the start of its computation. */
export function recent<A, T>(freshMs: number, make: (argument: A) => Promise<T>): (argument: A) => Promise<T> {
  let kept: { value: T; begunAt: number } | null = null;
  let makingSince: number | null = null;
  return async (argument) => {
    const cameAt = Date.now();
    for (;;) {
      const now = Date.now();
      // A value whose computation began after this caller arrived is as new as one that it would compute itself.
      if (kept !== null && (now - kept.begunAt < freshMs || kept.begunAt > cameAt)) return kept.value;
      if (makingSince === null || now - makingSince >= MAKING_MS_MAX) break;
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
    const begunAt = Date.now();
    makingSince = begunAt;
    try {
      const value = await make(argument);
      if (kept === null || kept.begunAt < begunAt) kept = { value, begunAt };
      return value;
    } finally {
      if (makingSince === begunAt) makingSince = null;
    }
  };
}
