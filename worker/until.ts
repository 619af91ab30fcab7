/** Waits that end early: when the caller goes, when a time comes, or when an object does not answer. */

/** Longest that the answer of an object (Pool, Card, Tenant) is waited for, ms, where it has nothing to wait for itself. */
const ANSWER_MS_MAX = 10_000;

/** Null when the caller goes first. */
export async function unlessGone<T>(wait: Promise<T>, gone: AbortSignal): Promise<T | null> {
  const { promise: left, resolve } = Promise.withResolvers<null>();
  const leave = (): void => resolve(null);
  if (gone.aborted) leave();
  else gone.addEventListener("abort", leave, { once: true });
  try {
    // Raced in any case: a wait that fails later is nobody's loose end.
    return await Promise.race([left, wait]);
  } finally {
    gone.removeEventListener("abort", leave);
  }
}

/** Null when the time comes first. */
export async function unlessLate<T>(wait: Promise<T>, until: number | null): Promise<T | null> {
  if (until === null) return wait;
  let timer: number | null = null;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), Math.max(0, until - Date.now()));
  });
  try {
    return await Promise.race([wait, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** An object did not answer in time; whether it did what it was asked is not known. */
export class Silent extends Error {}

/** What an object answers; throws Silent when it takes longer than `ms`. */
export async function answered<P extends PromiseLike<unknown>>(call: P, ms = ANSWER_MS_MAX): Promise<Awaited<P>> {
  let timer: number | null = null;
  const silent = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Silent(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([call, silent]);
  } finally {
    clearTimeout(timer);
  }
}
