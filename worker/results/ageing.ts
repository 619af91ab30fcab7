/** What is taken away by the clock: each sweep is short, and the next one goes on where it stopped. */
import { answered } from "../../durable-objects/answer-protocol.ts";
import { FILE_AGE_MS_MAX, FILES } from "../dialects/replicate/files.ts";
import type { Env } from "../env.ts";
import { mover } from "./infrequent.ts";
import { JOBS } from "../jobs/submit.ts";
import { removeMatching } from "./removal.ts";
import { INPUTS } from "../body/spool.ts";
import { RESULTS } from "./result.ts";

/** No request lives so long: what is older was left behind by one that was cut off. */
const INPUT_AGE_MS_MAX = 86_400_000;
/** Rounds of removal in one sweep, of a thousand results and a thousand answers each. */
const ROUNDS_MAX = 100;
/** Of R2's lists, and of one deletion. */
const PAGE_OBJECTS = 1_000;
const PAGES_MAX = 20;
/** Of jobs' inputs: each old one asks its Job. */
const PAGE_JOBS = 50;

/** An object as R2 lists it. */
export type Walked = Pick<R2Object, "key" | "size" | "uploaded" | "customMetadata" | "storageClass">;

/** One sweep; what fails in it keeps nothing else from being done. `now`: ms of the epoch. */
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

/** Removes results and stored answers that are over. */
async function sweepOver(env: Env, now: number): Promise<void> {
  const removed = await removeMatching(env, { over: now }, "all", ROUNDS_MAX);
  if (removed.results + removed.answers > 0) console.log(JSON.stringify({ event: "aged", ...removed }));
}

/** Moves results that are old enough to where storage costs less. */
async function sweepOld(env: Env, now: number): Promise<void> {
  const move = await mover(env, now);
  if (move !== null) await walk(env.RESULTS, RESULTS, "ageing/infrequent", PAGE_OBJECTS, move);
}

/** Removes spooled bodies that no request owns any more. `now`: ms of the epoch. */
export async function sweepInputs(bucket: R2Bucket, now: number, pageObjects = PAGE_OBJECTS): Promise<void> {
  await walk(bucket, INPUTS, "ageing/inputs", pageObjects, removing(bucket, now - INPUT_AGE_MS_MAX));
}

/** Removes inputs of jobs that never came to stand. `now`: ms of the epoch. */
export async function sweepJobs({ RESULTS: bucket, JOB }: Env, now: number, pageJobs = PAGE_JOBS): Promise<void> {
  const isLeft = async ({ key }: Walked): Promise<boolean> => {
    const id = key.slice(JOBS.length, key.indexOf("/", JOBS.length));
    // One that does not answer is asked by a later sweep.
    return (await answered(JOB.getByName(id).owner()).catch(() => "unknown")) === null;
  };
  await walk(bucket, JOBS, "ageing/jobs", pageJobs, async (page) => {
    const old = page.filter(({ uploaded }) => uploaded.getTime() < now - INPUT_AGE_MS_MAX);
    const left = await Promise.all(old.map(isLeft));
    const keys = old.flatMap(({ key }, i) => (left[i] ? [key] : []));
    if (keys.length > 0) await bucket.delete(keys);
    return true;
  });
}

/** Removes callers' files that are over their time. */
async function sweepFiles(bucket: R2Bucket, now: number): Promise<void> {
  await walk(bucket, FILES, "ageing/files", PAGE_OBJECTS, removing(bucket, now - FILE_AGE_MS_MAX));
}

/** Removes what was put before this time, of all pages. */
function removing(bucket: R2Bucket, until: number): (page: Walked[]) => Promise<boolean> {
  return async (page) => {
    const old = page.filter(({ uploaded }) => uploaded.getTime() < until);
    if (old.length > 0) await bucket.delete(old.map(({ key }) => key));
    return true;
  };
}

/** Visits objects page by page, on from where the last walk stopped, until `visit` says no. The place is kept under `placeKey`. */
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
