/** What is taken away by the clock: each sweep is short, and the next one goes on where it stopped. */
import { INPUTS } from "./spool.ts";

/** No request lives so long: what is older was left behind by one that was cut off. */
const INPUT_AGE_MS_MAX = 86_400_000;
/** Of R2's lists, and of one deletion. */
const PAGE_OBJECTS = 1_000;
const PAGES_MAX = 20;
/** Where the place is kept at which the next sweep of spooled bodies goes on. */
const PLACE_KEY = "ageing/inputs";

/** Removes spooled bodies that no request owns any more. `now`: ms of the epoch. */
export async function sweepInputs(bucket: R2Bucket, now: number, pageObjects = PAGE_OBJECTS): Promise<void> {
  const began = await (await bucket.get(PLACE_KEY))?.text();
  let after = began;
  for (let page = 0; page < PAGES_MAX; page++) {
    const listed = await bucket.list({ prefix: INPUTS, limit: pageObjects, ...(after ? { startAfter: after } : {}) });
    const old = listed.objects.filter(({ uploaded }) => now - uploaded.getTime() > INPUT_AGE_MS_MAX);
    if (old.length > 0) await bucket.delete(old.map(({ key }) => key));
    after = listed.truncated ? listed.objects.at(-1)?.key : undefined;
    if (after === undefined) break;
  }
  if (after !== undefined) await bucket.put(PLACE_KEY, after);
  else if (began !== undefined) await bucket.delete(PLACE_KEY);
}
