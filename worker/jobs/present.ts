/** Removes results that no longer exist from the views of jobs, so that a deleted result disappears there at once. */
import type { JobView } from "../../durable-objects/job-protocol.ts";
import { knownResults } from "../db/purge-queries.ts";
import type { Env } from "../env.ts";
import { existing } from "../results/result.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";

/**
 * One D1 query finds nearly all results; those without a row are looked up in R2, because a row is written later than
 * its result and can be lost.
 */
export async function withPresent(env: Env, views: JobView[]): Promise<JobView[]> {
  const named = views.flatMap(({ state }) => state.results.map(({ id }) => id));
  if (named.length === 0) return views;
  const known = new Set(await withTimeout(knownResults(env, named)));
  const present = new Set([
    ...known,
    ...(await existing(
      env,
      named.filter((id) => !known.has(id)),
    )),
  ]);
  return views.map((view) => {
    const results = view.state.results.filter(({ id }) => present.has(id));
    if (results.length === view.state.results.length) return view;
    return { ...view, state: { ...view.state, results }, removed: true };
  });
}
