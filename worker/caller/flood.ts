/**
 * Flood guard for cache hits. A hit makes no object call, so the guard must stay cheaper than a hit: it asks the rate
 * limit binding for a random sample of hits only, and the binding's limit is scaled to that sample. After a refusal,
 * this isolate refuses the key for a moment without asking.
 */
import { LRUCache } from "lru-cache";
import type { Env } from "../env.ts";

/** One hit in this many asks the binding; FLOOD's limit in wrangler.toml counts only these. */
const HITS_OF_A_LOT = 16;
/** How long a key is refused before the binding is asked again. */
const REFUSED_MS = 1_000;
const REFUSED_MAX = 2_000;

const refused = new LRUCache<string, true>({ max: REFUSED_MAX, ttl: REFUSED_MS, ttlResolution: 0, perf: Date });

/** Whether the key's hits are a flood. `lot`: a random number in [0, 1) that decides whether this hit is sampled. */
export async function isFlood({ FLOOD }: Pick<Env, "FLOOD">, key: string, lot: number): Promise<boolean> {
  if (refused.has(key)) return true;
  if (lot * HITS_OF_A_LOT >= 1 || (await FLOOD.limit({ key })).success) return false;
  refused.set(key, true);
  return true;
}
