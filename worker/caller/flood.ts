/**
 * The flood guard of the store: a hit calls no object, so only a flood of them is stopped, and the guard itself must not
 * cost what it saves. Hits that are drawn by lot ask the binding, whose limit is that share of the real one; whom it
 * refuses this isolate refuses for a moment without asking.
 */
import { LRUCache } from "lru-cache";
import type { Env } from "../env.ts";

/** One hit in so many asks; FLOOD's limit in wrangler.toml is of these alone. */
const HITS_OF_A_LOT = 16;
/** How long a key is refused before it may ask again. */
const REFUSED_MS = 1_000;
const REFUSED_MAX = 2_000;

const refused = new LRUCache<string, true>({ max: REFUSED_MAX, ttl: REFUSED_MS, ttlResolution: 0, perf: Date });

/** Whether the key's hits are a flood. `lot`: 0 to 1. */
export async function isFlood({ FLOOD }: Pick<Env, "FLOOD">, key: string, lot: number): Promise<boolean> {
  if (refused.has(key)) return true;
  if (lot * HITS_OF_A_LOT >= 1 || (await FLOOD.limit({ key })).success) return false;
  refused.set(key, true);
  return true;
}
