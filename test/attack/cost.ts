/** What a request costs in D1, R2, object and rate limiter calls, counted at the Worker's bindings. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { type Doorway, doorway } from "../contract/doorway.ts";

/** Result rows are written in batches, 250 ms after their answers, and usage counts within a second. */
const QUIET_MS = 1_500;
const SETTLED_MS_MAX = 10_000;
const LOOK_MS = 200;
/** A route of a service: the Worker reads the list of services for it, at most every 5 s. */
const SERVICE_ROUTE = "/sdapi/v1/sd-models";

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

/** Returns the counts right after the list of services was read, so that it is not read again for 5 s. */
async function refreshed(door: Doorway): Promise<Record<string, number>> {
  const until = performance.now() + SETTLED_MS_MAX;
  for (const { d1_reads: before } = await used(door); performance.now() < until; await delay(LOOK_MS)) {
    await door.ask(SERVICE_ROUTE, { key: null });
    const now = await used(door);
    if (now["d1_reads"] !== before) return now;
  }
  throw new Error("the list of services is not read any more");
}

/** Returns what the calls made by `work` used until it resolved. Bindings that were not used are left out. */
export async function costOf(door: Doorway, work: () => Promise<unknown>): Promise<Record<string, number>> {
  await settled(door);
  const before = await refreshed(door);
  await work();
  const cost = Object.entries(await used(door)).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(cost.filter(([, count]) => count !== 0));
}
