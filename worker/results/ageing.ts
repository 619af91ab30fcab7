/** The hourly sweep: removes expired objects and leftovers. Each sweep is short; the next one continues from there. */
import { withTimeout } from "../../durable-objects/timeout.ts";
import { FILE_AGE_MS_MAX, FILES } from "../dialects/replicate/files.ts";
import type { Env } from "../env.ts";
import { mover } from "./infrequent.ts";
import { JOBS } from "../jobs/submit.ts";
import { removeMatching } from "./removal.ts";
import { INPUTS } from "../body/spool.ts";
import { RESULTS } from "./result.ts";

/** No request lives longer: an older input was left behind by a request that was cut off. */
const INPUT_AGE_MS_MAX = 86_400_000;
/** Rounds of removal in one sweep, of up to a thousand results and a thousand answers each. */
const ROUNDS_MAX = 100;
/** Maximum objects in one R2 list and in one deletion. */
const PAGE_OBJECTS = 1_000;
const PAGES_MAX = 20;
/** Page size for jobs' inputs: each old one costs a call to its Job. */
const PAGE_JOBS = 50;

/** An object as R2 lists it. */
export type Walked = Pick<R2Object, "key" | "size" | "uploaded" | "customMetadata" | "storageClass">;

/** Runs one sweep. A failing step does not stop the others; the first error is rethrown. `now`: ms since the epoch. */
export async function sweep(env: Env, now: number): Promise<void> {
  const done = await Promise.allSettled([
    sweepInputs(env.RESULTS, now),
    sweepJobs(env, now),
    sweepFiles(env.RESULTS, now),
    sweepOver(env, now),
    sweepOld(env, now),
  ]);
  const failed = done.find((each) => each.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

/** Removes expired results and stored answers. */
async function sweepOver(env: Env, now: number): Promise<void> {
  const removed = await removeMatching(env, { over: now }, "all", ROUNDS_MAX);
  if (removed.results + removed.answers > 0) console.log(JSON.stringify({ event: "aged", ...removed }));
}

/** Moves old results to a cheaper storage class. */
async function sweepOld(env: Env, now: number): Promise<void> {
  const move = await mover(env, now);
  if (move !== null) await walk(env.RESULTS, RESULTS, "ageing/infrequent", PAGE_OBJECTS, move);
}

/** Removes spooled bodies whose request is over. `now`: ms since the epoch. */
export async function sweepInputs(bucket: R2Bucket, now: number, pageObjects = PAGE_OBJECTS): Promise<void> {
  await walk(bucket, INPUTS, "ageing/inputs", pageObjects, removing(bucket, now - INPUT_AGE_MS_MAX));
}

/** Removes inputs whose job was never created. `now`: ms since the epoch. */
export async function sweepJobs({ RESULTS: bucket, JOB }: Env, now: number, pageJobs = PAGE_JOBS): Promise<void> {
  const isLeft = async ({ key }: Walked): Promise<boolean> => {
    const id = key.slice(JOBS.length, key.indexOf("/", JOBS.length));
    // A Job that does not respond is asked by a later sweep.
    return (await withTimeout(JOB.getByName(id).owner()).catch(() => "unknown")) === null;
  };
  await walk(bucket, JOBS, "ageing/jobs", pageJobs, async (page) => {
    const old = page.filter(({ uploaded }) => uploaded.getTime() < now - INPUT_AGE_MS_MAX);
    const left = await Promise.all(old.map(isLeft));
    const keys = old.flatMap(({ key }, i) => (left[i] ? [key] : []));
    if (keys.length > 0) await bucket.delete(keys);
    return true;
  });
}

/** Removes callers' expired files. */
async function sweepFiles(bucket: R2Bucket, now: number): Promise<void> {
  await walk(bucket, FILES, "ageing/files", PAGE_OBJECTS, removing(bucket, now - FILE_AGE_MS_MAX));
}

/** Returns a visitor that removes objects uploaded before `until`. */
function removing(bucket: R2Bucket, until: number): (page: Walked[]) => Promise<boolean> {
  return async (page) => {
    const old = page.filter(({ uploaded }) => uploaded.getTime() < until);
    if (old.length > 0) await bucket.delete(old.map(({ key }) => key));
    return true;
  };
}

/**
 * Visits objects page by page, starting where the last walk stopped, until `visit` returns false. The position is
 * stored under `placeKey`.
 */
async function walk(
  bucket: R2Bucket,
  prefix: string,
  placeKey: string,
  limit: number,
  visit: (page: Walked[]) => Promise<boolean>,
): Promise<void> {
  const began = await (await bucket.get(placeKey))?.text();
  let after = began;
  for (let page = 0; page < PAGES_MAX; page++) {
    const from = after ? { startAfter: after } : {};
    const listed = await bucket.list({ prefix, limit, include: ["customMetadata"], ...from });
    const goesOn = await visit(listed.objects);
    after = listed.truncated ? listed.objects.at(-1)?.key : undefined;
    if (after === undefined || !goesOn) break;
  }
  if (after !== undefined) await bucket.put(placeKey, after);
  else if (began !== undefined) await bucket.delete(placeKey);
}
