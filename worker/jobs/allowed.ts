/** Long-held responses stop being served when the caller's key is revoked in the meantime. */
import { authenticate, hasCredential } from "../auth.ts";
import type { CallContext } from "../call-context.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import { unlessLate } from "../run/until.ts";

/**
 * How often the key is checked again. Together with the time an isolate caches keys (5 s), this stays within the 10 s
 * by which a revoked key has to stop working.
 */
const LOOK_EVERY_MS = 4_000;

/**
 * Resolves to the result of `work`, or to a refusal within LOOK_EVERY_MS of the caller's key becoming invalid. Requests
 * without a credential (signed URLs) are not checked.
 */
export async function whileAllowed<T>({ request, env }: CallContext, work: Promise<T>): Promise<T | Refusal> {
  if (!hasCredential(request)) return work;
  const done = work.then((value) => ({ value }));
  // If the key is revoked first, nobody awaits `done`: this avoids an unhandled rejection.
  done.catch(() => undefined);
  for (;;) {
    const ended = await unlessLate(done, Date.now() + LOOK_EVERY_MS);
    if (ended !== null) return ended.value;
    const caller = await authenticate(request, env);
    if (isRefusal(caller)) return caller;
  }
}
