/**
 * After a change: this isolate forgets what it held, and the objects are told. The change stands whatever comes of the
 * telling: a Worker that finds an object behind tells it again.
 */
import { forgetCatalog } from "../services/catalog.ts";
import { cardsByIds } from "../db/list-queries.ts";
import type { Env } from "../env.ts";
import { provision, provisionCards } from "../services/provision.ts";
import type { Trace } from "../trace.ts";

/** Tells the pools of these services with the cards they list, and the cards with these ids. */
export async function announce(env: Env, trace: Trace, services: string[], cards: string[]): Promise<void> {
  forgetCatalog();
  const untold: string[] = [];
  // One service after the other: each of them tells many cards at once already.
  for (const service of services) {
    await tell(`service ${service}`, () => provision(env, service), untold);
  }
  if (cards.length > 0) await tell("cards", async () => provisionCards(env, await cardsByIds(env, cards)), untold);
  if (untold.length > 0) trace.fields["untold"] = untold.join(", ");
}

async function tell(who: string, work: () => Promise<void>, untold: string[]): Promise<void> {
  try {
    await work();
  } catch (error) {
    untold.push(who);
    console.error(JSON.stringify({ event: "provision_failed", who, error: String(error) }));
  }
}
