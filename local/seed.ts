/**
 * What `npm start` puts into the front door, through the admin API: two services, the simulated cards in both, and one
 * tenant with one key. What an operator has changed since is left alone:
 *
 *   a service   is made when it is missing, never changed
 *   a card      gets its new origin; its state is touched only where an earlier --no-sim start had changed it, and only
 *               as long as it is what that start left. park.json says which those are.
 *   a tenant    is made when there is none at all, or when the demonstration's own is gone
 *   a key       is made when the one of the start before does not work any more
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

/** The agent's token of every card, for its heartbeats. */
export async function seedCards(admin: Admin, stateDir: string, cards: SimulatedCard[]): Promise<Map<string, string>> {
  const services = new Set((await admin.all<{ id: string }>("/services")).map((service) => service.id));
  for (const { id, kind, route } of SERVICES) {
    if (!services.has(id)) await admin.call("PUT", `/services/${id}`, { kind, route });
  }
  // Kept before the first is listed: a start that is cut here must not leave cards that nobody can tell for simulated.
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

/** Gives the cards that --no-sim disabled the state they had, unless somebody has changed it since. */
async function unpark(admin: Admin, stateDir: string): Promise<void> {
  const { parked } = await loadPark(stateDir);
  if (parked.length === 0) return;
  const now = new Map((await admin.all<Card>("/cards")).map((card) => [card.id, card.state]));
  for (const { id, state } of parked) {
    if (now.get(id) === "disabled") await admin.call("PATCH", `/cards/${id}`, { state });
  }
  await forgetParked(stateDir);
}

/** Disables the simulated cards of earlier starts; the ids of those that took work until now. */
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

/** A key of the demonstration's tenant that works. */
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

/** Whether the key is one; what it may do is its operator's business. */
async function works(url: string, key: string): Promise<boolean> {
  const answer = await fetch(`${url}/v1/requests/none`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(KEY_CHECK_MS_MAX),
  });
  const text = await answer.text();
  if (answer.status >= 500) throw new RefusedError("GET /v1/requests/none", answer.status, text);
  return answer.status !== 401;
}
