/**
 * What `npm start` creates through the admin API: two services, the simulated cards in both, and one tenant with one
 * key. Changes that an operator has made since are kept:
 *
 *     a service   is created if it is missing, never changed
 *     a card      gets its new origin; its state is changed only if an earlier --no-sim start disabled it and nobody
 *                 has changed it since. park.json lists those cards.
 *     a tenant    is created if there is neither the demonstration's earlier tenant nor one named "demo"
 *     a key       is created if the key of the previous start does not work any more
 */
import { type Admin, RefusedError } from "./admin.ts";
import { keepDemoKey, loadDemoKey } from "./secrets.ts";
import { forgetParked, keepPark, loadPark, type ParkedCard } from "./park.ts";
import type { SimulatedCard } from "./simulator.ts";

export const SERVICES = [
  { id: "portrait", kind: "image", route: "/sdapi/v1/" },
  { id: "cosyvoice2", kind: "tts", route: "/AIVoice/TTS/CosyVoice2/" },
] as const;

const DEMO_TENANT = "demo";
const KEY_CHECK_MS_MAX = 10_000;

type CardState = ParkedCard["state"];
interface Card {
  id: string;
  state: CardState;
}

/** Returns the agent's token of each card, for its heartbeats. */
export async function seedCards(admin: Admin, stateDir: string, cards: SimulatedCard[]): Promise<Map<string, string>> {
  const services = new Set((await admin.all<{ id: string }>("/services")).map((service) => service.id));
  for (const { id, kind, route } of SERVICES) {
    if (!services.has(id)) await admin.call("PUT", `/services/${id}`, { kind, route });
  }
  // Stored before the first card is listed: after an interrupted start the cards must still be known as simulated.
  await keepPark(
    stateDir,
    cards.map((card) => card.card),
  );
  const tokens = new Map<string, string>();
  for (const card of cards) tokens.set(card.card, await listCard(admin, card));
  await unpark(admin, stateDir);
  return tokens;
}

async function listCard(admin: Admin, { card, server, gpu, origin }: SimulatedCard): Promise<string> {
  let token: string | undefined;
  for (const { id } of SERVICES) {
    const body = { origin, transport: "direct", server, gpu };
    const put = await admin.call<{ token?: string }>("PUT", `/services/${id}/cards/${card}`, body);
    token ??= put.token;
  }
  return token ?? (await admin.call<{ token: string }>("POST", `/cards/${card}/token`)).token;
}

/** Restores the state of the cards that --no-sim disabled, unless somebody has changed it since. */
async function unpark(admin: Admin, stateDir: string): Promise<void> {
  const { parked } = await loadPark(stateDir);
  if (parked.length === 0) return;
  const now = new Map((await admin.all<Card>("/cards")).map((card) => [card.id, card.state]));
  for (const { id, state } of parked) {
    if (now.get(id) === "disabled") await admin.call("PATCH", `/cards/${id}`, { state });
  }
  await forgetParked(stateDir);
}

/** Disables the simulated cards of earlier starts. Returns the ids of those that were not disabled before. */
export async function parkCards(admin: Admin, stateDir: string): Promise<string[]> {
  const park = await loadPark(stateDir);
  if (park.cards.length === 0) return [];
  const taking = (await admin.all<Card>("/cards")).filter(
    (card) => park.cards.includes(card.id) && card.state !== "disabled",
  );
  await keepPark(stateDir, park.cards, [...park.parked, ...taking]);
  for (const { id } of taking) await admin.call("PATCH", `/cards/${id}`, { state: "disabled" });
  return taking.map((card) => card.id);
}

/** Returns a working key of the demonstration's tenant. */
export async function seedKey(admin: Admin, url: string, stateDir: string): Promise<string> {
  const kept = await loadDemoKey(stateDir);
  if (kept !== null && (await works(url, kept.key))) return kept.key;
  const tenants = await admin.all<{ id: string; name: string }>("/tenants");
  const found =
    tenants.find((tenant) => tenant.id === kept?.tenant) ?? tenants.find((tenant) => tenant.name === DEMO_TENANT);
  const tenant = found ?? (await admin.call<{ id: string }>("POST", "/tenants", { name: DEMO_TENANT }));
  const made = await admin.call<{ id: string; key: string }>("POST", `/tenants/${tenant.id}/keys`, { name: "local" });
  await keepDemoKey(stateDir, { tenant: tenant.id, id: made.id, key: made.key });
  return made.key;
}

/** Whether the key is still valid; what it may do is up to the operator. */
async function works(url: string, key: string): Promise<boolean> {
  const answer = await fetch(`${url}/v1/requests/none`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(KEY_CHECK_MS_MAX),
  });
  const text = await answer.text();
  if (answer.status >= 500) throw new RefusedError("GET /v1/requests/none", answer.status, text);
  return answer.status !== 401;
}
