/** What a request costs in D1, R2, object and rate limiter calls, counted at the Worker's bindings. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { type Doorway, doorway } from "../contract/doorway.ts";

/** Result rows are written in batches, 250 ms after their answers. */
const QUIET_MS = 600;
const SETTLED_MS_MAX = 10_000;

/** Starts a Portico whose Worker counts the calls of its bindings. */
export async function countedDoorway(): Promise<Doorway> {
  const { path } = await bundle(join(ROOT, "bench/workers/counted.ts"), join(ROOT, "dist", "counted"));
  return doorway({ bundle: path });
}

async function used(door: Doorway): Promise<Record<string, number>> {
  const answer = await door.ask("/health", { key: null });
  const counts: Record<string, number> = JSON.parse(answer.header("x-counted") ?? "");
  return counts;
}

/** Returns the counts once they no longer change. */
async function settled(door: Doorway): Promise<Record<string, number>> {
  const until = performance.now() + SETTLED_MS_MAX;
  for (let last = await used(door); performance.now() < until;) {
    await delay(QUIET_MS);
    const now = await used(door);
    if (JSON.stringify(now) === JSON.stringify(last)) return now;
    last = now;
  }
  throw new Error("the door does not come to rest");
}

/** Returns what the calls made by `work` used until it resolved. Bindings that were not used are left out. */
export async function costOf(door: Doorway, work: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = await settled(door);
  await work();
  const cost = Object.entries(await used(door)).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(cost.filter(([, count]) => count !== 0));
}
