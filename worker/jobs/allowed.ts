/** Answers that are held: whoever's key is revoked meanwhile is not answered any more. */
import { authenticate, hasCredential } from "../auth.ts";
import type { Mouth } from "../mouth.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import { unlessLate } from "../run/until.ts";

/** How often the key is looked at: with what an isolate believes of keys, within the 10 s after which a revoked one has stopped. */
const LOOK_EVERY_MS = 4_000;

/** What the work comes to, while the caller's key is good; a signature needs none. */
export async function whileAllowed<T>({ request, env }: Mouth, work: Promise<T>): Promise<T | Refusal> {
  if (!hasCredential(request)) return work;
  const done = work.then((value) => ({ value }));
  // It is not heard any more where the key went first.
  done.catch(() => undefined);
  for (;;) {
    const ended = await unlessLate(done, Date.now() + LOOK_EVERY_MS);
    if (ended !== null) return ended.value;
    const caller = await authenticate(request, env);
    if (isRefusal(caller)) return caller;
  }
}
