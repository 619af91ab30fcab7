/** Timeouts for calls to objects and stores, so that a lost reply cannot block everything behind it. */

/** Default timeout, ms, for calls in which the callee itself waits for nothing. */
const ANSWER_MS_MAX = 10_000;

/** The callee did not reply in time. Whether it performed the call is unknown. */
export class CallTimeout extends Error {}

/** Returns the result of the call; throws CallTimeout if it takes longer than `ms`. */
export async function withTimeout<P extends PromiseLike<unknown>>(call: P, ms = ANSWER_MS_MAX): Promise<Awaited<P>> {
  const { promise: silent, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new CallTimeout(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([call, silent]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for the work to end, but at most `ms`. */
export async function shortly(work: Promise<unknown>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
