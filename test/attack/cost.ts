/** What a request costs behind the door: every use of D1, R2, the objects and the rate limiters, counted at the bindings. */
import { join } from "node:path";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { type Doorway, doorway } from "../contract/doorway.ts";

/** A Portico whose Worker counts. */
export async function countedDoorway(): Promise<Doorway> {
  const { path } = await bundle(join(ROOT, "bench/workers/counted.ts"), join(ROOT, "dist", "counted"));
  return doorway({ bundle: path });
}

async function used(door: Doorway): Promise<Record<string, number>> {
  const answer = await door.ask("/health", { key: null });
  const counts: Record<string, number> = JSON.parse(answer.header("x-counted") ?? "");
  return counts;
}

/** What the calls of `work` used, up to its end; what was not used is left out. */
export async function costOf(door: Doorway, work: () => Promise<unknown>): Promise<Record<string, number>> {
  const before = await used(door);
  await work();
  const cost = Object.entries(await used(door)).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(cost.filter(([, count]) => count !== 0));
}
