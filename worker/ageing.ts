/** What is taken away by the clock: each sweep is short, and the next one goes on where it stopped. */
import { FILE_AGE_MS_MAX, FILES } from "./dialects/replicate/files.ts";
import { INPUTS } from "./spool.ts";

/** No request lives so long: what is older was left behind by one that was cut off. */
const INPUT_AGE_MS_MAX = 86_400_000;
/** Of R2's lists, and of one deletion. */
const PAGE_OBJECTS = 1_000;
const PAGES_MAX = 20;

/** What a sweep is about: objects below a prefix that are older, ms; and where it keeps the place at which the next goes on. */
interface Swept {
  prefix: string;
  ageMsMax: number;
  placeKey: string;
}

const SPOOLED: Swept = { prefix: INPUTS, ageMsMax: INPUT_AGE_MS_MAX, placeKey: "ageing/inputs" };
const LAID_DOWN: Swept = { prefix: FILES, ageMsMax: FILE_AGE_MS_MAX, placeKey: "ageing/files" };

/** Removes spooled bodies that no request owns any more. `now`: ms of the epoch. */
export function sweepInputs(bucket: R2Bucket, now: number, pageObjects = PAGE_OBJECTS): Promise<void> {
  return sweep(bucket, SPOOLED, now, pageObjects);
}

/** Removes callers' files that are over their time. */
export function sweepFiles(bucket: R2Bucket, now: number): Promise<void> {
  return sweep(bucket, LAID_DOWN, now, PAGE_OBJECTS);
}

async function sweep(
  bucket: R2Bucket,
  { prefix, ageMsMax, placeKey }: Swept,
  now: number,
  pageObjects: number,
): Promise<void> {
  const began = await (await bucket.get(placeKey))?.text();
  let after = began;
  for (let page = 0; page < PAGES_MAX; page++) {
    const listed = await bucket.list({ prefix, limit: pageObjects, ...(after ? { startAfter: after } : {}) });
    const old = listed.objects.filter(({ uploaded }) => now - uploaded.getTime() > ageMsMax);
    if (old.length > 0) await bucket.delete(old.map(({ key }) => key));
    after = listed.truncated ? listed.objects.at(-1)?.key : undefined;
    if (after === undefined) break;
  }
  if (after !== undefined) await bucket.put(placeKey, after);
  else if (began !== undefined) await bucket.delete(placeKey);
}
