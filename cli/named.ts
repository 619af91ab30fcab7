/** Looks up things that have a name as well as an id. */
import type { Api, List } from "./api.ts";
import { Failure, usageFailure } from "./failure.ts";
import { path } from "./path.ts";
import { clean } from "./table.ts";

/** Rows that are searched for a name. */
const ROWS_MAX = 10_000;

/** Returns the thing with this id, or else the only one with this name. `list` is the path of the list to search. */
export async function named<Thing extends { id: string; name: string }>(
  api: Api,
  list: string,
  text: string,
): Promise<Thing> {
  try {
    return await api.call<Thing>("GET", `${list}${path`/${text}`}`);
  } catch (error) {
    const noId = error instanceof Failure && (error.status === 404 || error.status === 400);
    if (!noId) throw error;
  }
  const { data } = await api.all<List<Thing>>(list, ROWS_MAX);
  const [found, ...others] = data.filter((thing) => thing.name === text);
  if (found === undefined)
    throw new Failure(`No id or name matches ${clean(text)}.`, `To see what exists: portico ${list.slice(1)} list.`);
  if (others.length > 0) {
    const ids = [found, ...others].map((thing) => thing.id).join(", ");
    throw usageFailure(`More than one is named ${clean(text)}.`, `Choose by id: ${ids}.`);
  }
  return found;
}
