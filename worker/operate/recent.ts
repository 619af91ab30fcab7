/**
 * An answer that everybody may ask for and that costs many calls: made at most once in a while per isolate. Whoever
 * comes while it is being made waits for it by looking again; a promise of another request may not be awaited here.
 */

/** Pause between two looks. */
const LOOK_EVERY_MS = 20;
/** A maker that has not finished by then is taken for lost (its caller may have hung up). */
const MAKING_MS_MAX = 8_000;

/** `make`, with its value kept for `freshMs` from the moment it began. */
export function recent<A, T>(freshMs: number, make: (argument: A) => Promise<T>): (argument: A) => Promise<T> {
  let kept: { value: T; begunAt: number } | null = null;
  let makingSince: number | null = null;
  return async (argument) => {
    const cameAt = Date.now();
    for (;;) {
      const now = Date.now();
      // What was begun after this caller came is as new as what it would make itself.
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
