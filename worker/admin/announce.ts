/**
 * After a change, clears this isolate's cached catalog and pushes the new configuration to the objects. A failed push
 * does not undo the change: a Worker that finds an object out of date provisions it again.
 */
import { forgetCatalog } from "../services/catalog.ts";
import { cardsByIds } from "../db/list-queries.ts";
import type { Env } from "../env.ts";
import { provision, provisionCards } from "../services/provision.ts";
import type { Trace } from "../trace.ts";

/** Pushes to the pools of these services and the cards that they list, and to the cards with these ids. */
export async function announce(env: Env, trace: Trace, services: string[], cards: string[]): Promise<void> {
  forgetCatalog();
  const untold: string[] = [];
  // Sequential, because each service already pushes to many cards at once.
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
