/** Listings: which card serves which service, and at which origin. Listing an unknown card creates it. */
import type { z } from "zod";
import { deleteListing, putListing } from "../db/admin-queries.ts";
import { cardById, CARDS_MAX, countCards, listingsOf } from "../db/list-queries.ts";
import { type CardRow, type ListingRow, serviceById } from "../db/queries.ts";
import { config, type Env } from "../env.ts";
import { cardStatuses } from "../operate/live.ts";
import { originProblem } from "../services/origins.ts";
import { invalid, isRefusal, refuse, type Refusal } from "../refusal.ts";
import { Id } from "../api/schema-parts.ts";
import { ListingPut } from "../services/service.ts";
import { announce } from "./announce.ts";
import { attempt, type Changed, changeOf } from "./change.ts";
import { checkFields } from "../api/json-body.ts";
import { makeCardToken } from "./operator.ts";
import { type Answer, type Call, route, type Route } from "./route.ts";
import { CardPutView, cardView } from "./views.ts";

const path = "/v1/services/{id}/cards/{card}";
const tag = "Cards";
type Body = z.output<typeof ListingPut>;
type Named<B> = Call<B, unknown, "id" | "card">;

export const listingRoutes: Route[] = [
  route({
    method: "PUT",
    path,
    role: "ops",
    tag,
    summary: "List a card in a service, or merge into the listing",
    description:
      "`origin` is required for a new listing. `origin`, `transport` and `weight` belong to the listing; `server`, `gpu`, `slots` and `state` belong to the card in all its listings. Defaults of a new card: direct, weight 1, 2 slots, active.",
    body: ListingPut,
    answers: {
      200: { description: "The card.", schema: CardPutView },
      201: { description: "The card, newly listed; a new card comes with its agent's token.", schema: CardPutView },
    },
    run: (call) => attempt(() => put(call)),
  }),
  route({
    method: "DELETE",
    path,
    role: "ops",
    tag,
    summary: "Remove a card from a service",
    description: "The card itself stays, with its other listings.",
    answers: { 204: { description: "Removed.", schema: null } },
    run: (call) => attempt(() => remove(call)),
  }),
];

async function put(call: Named<Body>): Promise<Changed<Answer>> {
  const { env, trace, params, body } = call;
  const stored = await readListing(env, params);
  if (isRefusal(stored)) return stored;
  const wrong = await refuseUnfit(env, params.card, body, stored);
  if (wrong !== null) return wrong;

  const { card: base, token } =
    stored.card === null ? await newCard(env, params.card) : { card: stored.card, token: {} };
  const card = { ...base, ...cardSettings(base, body) };
  const listing = mergedListing(params, stored.listing, body);
  if (JSON.stringify([card, listing]) !== JSON.stringify([stored.card, stored.listing])) {
    const before = stored.card === null && stored.listing === null ? null : told(stored.card, stored.listing);
    const change = changeOf(call, "listing.put", `${params.id}/${params.card}`, before, told(card, listing));
    const outcome = await putListing(env, stored.card, card, listing, change);
    if (outcome !== "done") return outcome;
  }
  const listings = await listingsOf(env, "card", [params.card]);
  await announce(
    env,
    trace,
    listings.map((l) => l.serviceId),
    [],
  );
  const row = await cardById(env, params.card);
  if (row === null) return refuse("not_found");
  return { status: stored.listing === null ? 201 : 200, body: { ...cardView(row, listings), ...token } };
}

interface Stored {
  card: CardRow | null;
  /** The listing of this card in this service. */
  listing: ListingRow | null;
}

async function readListing(env: Env, params: { id: string; card: string }): Promise<Stored | Refusal> {
  const [service, card, listings] = await Promise.all([
    serviceById(env, params.id),
    cardById(env, params.card),
    listingsOf(env, "card", [params.card]),
  ]);
  if (service === null) return refuse("not_found");
  return { card, listing: listings.find((listing) => listing.serviceId === params.id) ?? null };
}

async function refuseUnfit(env: Env, id: string, body: Body, stored: Stored): Promise<Refusal | null> {
  const named = checkFields(Id, id);
  if (isRefusal(named)) return { ...named, param: "card" };
  if (body.origin === undefined && stored.listing === null) return invalid("origin", "origin_required");
  const problem = body.origin === undefined ? null : originProblem(body.origin, config(env).local);
  if (problem !== null) return invalid("origin", problem);
  if (stored.card === null && (await countCards(env)) >= CARDS_MAX)
    return invalid("card", "cards_at_most", { max: CARDS_MAX });
  return null;
}

/** Makes a card with the default settings, and a token for its agent. */
async function newCard(env: Env, id: string): Promise<{ card: CardRow; token: { token: string } }> {
  const [{ token, hash }, statuses] = await Promise.all([makeCardToken(env), cardStatuses(env, [id])]);
  const now = Date.now();
  // A deleted card with the same id may have left an object, which ignores versions up to its last one.
  const version = Math.max(now, (statuses.get(id)?.report.version ?? 0) + 1);
  const settings = { server: null, gpu: null, slots: 2, state: "active" as const };
  return { card: { id, ...settings, tokenHash: hash, version, createdAt: now }, token: { token } };
}

/** A card's settings, with those that the body omits left as they are. */
export function cardSettings(
  before: Pick<CardRow, "server" | "gpu" | "slots" | "state">,
  body: Pick<Body, "server" | "gpu" | "slots" | "state">,
): Pick<CardRow, "server" | "gpu" | "slots" | "state"> {
  return {
    server: body.server === undefined ? before.server : body.server,
    gpu: body.gpu === undefined ? before.gpu : body.gpu,
    slots: body.slots ?? before.slots,
    state: body.state ?? before.state,
  };
}

function mergedListing(params: { id: string; card: string }, before: ListingRow | null, body: Body): ListingRow {
  return {
    serviceId: params.id,
    cardId: params.card,
    origin: body.origin ?? before?.origin ?? "",
    transport: body.transport ?? before?.transport ?? "direct",
    weight: body.weight ?? before?.weight ?? 1,
  };
}

async function remove(call: Named<unknown>): Promise<Changed<Answer>> {
  const { env, trace, params } = call;
  const stored = await readListing(env, params);
  if (isRefusal(stored)) return stored;
  if (stored.card === null || stored.listing === null) return refuse("not_found");
  const change = changeOf(
    call,
    "listing.delete",
    `${params.id}/${params.card}`,
    told(stored.card, stored.listing),
    null,
  );
  const outcome = await deleteListing(env, stored.card, stored.listing, change);
  if (outcome !== "done") return outcome;
  const left = await listingsOf(env, "card", [params.card]);
  await announce(env, trace, [params.id, ...left.map((listing) => listing.serviceId)], [params.card]);
  return { status: 204, body: null };
}

/** The card with this one listing, for the audit log; without the token hash. */
function told(card: CardRow | null, listing: ListingRow | null): object {
  return {
    ...(card === null ? {} : { server: card.server, gpu: card.gpu, slots: card.slots, state: card.state }),
    ...(listing === null ? {} : { origin: listing.origin, transport: listing.transport, weight: listing.weight }),
  };
}
