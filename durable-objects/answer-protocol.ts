/** How any object or store is asked: a wait for its answer has a limit, else one that is lost holds up all after it. */

/** Longest that an answer is waited for, ms, where the asked has nothing to wait for itself. */
const ANSWER_MS_MAX = 10_000;

/** Who was asked did not answer in time; whether it did what it was asked is not known. */
export class Silent extends Error {}

/** What is answered; throws Silent when it takes longer than `ms`. */
export async function answered<P extends PromiseLike<unknown>>(call: P, ms = ANSWER_MS_MAX): Promise<Awaited<P>> {
  const { promise: silent, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Silent(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([call, silent]);
  } finally {
    clearTimeout(timer);
  }
}
