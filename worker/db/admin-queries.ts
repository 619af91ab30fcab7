/**
 * Writes of services, cards and listings by operators.
 *
 * Invariants: versions of services and cards only grow. A change of a card or a listing increments the version of the
 * card and of every service that lists it; a change of a service increments its own version and that of every card it
 * lists.
 */
import { eq, inArray, sql } from "drizzle-orm";
import type { Env } from "../env.ts";
import type { Service } from "../services/service.ts";
import type { Base } from "./base.ts";
import { type Change, commit, type Outcome } from "./commit.ts";
import type { CardRow, ListingRow, ServiceRow } from "./queries.ts";
import { cards, listings, services } from "./schema.ts";

const grown = (column: typeof services.version | typeof cards.version) =>
  sql<number>`max(${Date.now()}, ${column} + 1)`;

const sameService = (id: string, before: ServiceRow | null) =>
  sql`(SELECT config FROM services WHERE id = ${id}) IS ${before === null ? null : JSON.stringify(before.config)}`;

const sameCard = (id: string, before: CardRow | null) =>
  sql`(SELECT version FROM cards WHERE id = ${id}) IS ${before?.version ?? null}`;

const bumpCardsOf = (base: Base, serviceId: string) =>
  base
    .update(cards)
    .set({ version: grown(cards.version) })
    .where(
      inArray(cards.id, base.select({ id: listings.cardId }).from(listings).where(eq(listings.serviceId, serviceId))),
    );

const bumpServicesOf = (base: Base, cardId: string) =>
  base
    .update(services)
    .set({ version: grown(services.version) })
    .where(
      inArray(services.id, base.select({ id: listings.serviceId }).from(listings).where(eq(listings.cardId, cardId))),
    );

// ------------------------------------------------------------------------------------------------------- services

export function putService(
  env: Env,
  id: string,
  before: ServiceRow | null,
  config: Service,
  change: Change,
): Promise<Outcome> {
  return commit(env, change, sameService(id, before), (base) => {
    const now = Date.now();
    const row = { id, route: config.route, config, paused: false, version: now, createdAt: now };
    const set = { route: config.route, config, version: grown(services.version) };
    return [base.insert(services).values(row).onConflictDoUpdate({ target: services.id, set }), bumpCardsOf(base, id)];
  });
}

export function setPaused(env: Env, before: ServiceRow, paused: boolean, change: Change): Promise<Outcome> {
  return commit(
    env,
    change,
    sql`(SELECT paused FROM services WHERE id = ${before.id}) IS ${Number(before.paused)}`,
    (base) => [
      base
        .update(services)
        .set({ paused, version: grown(services.version) })
        .where(eq(services.id, before.id)),
      bumpCardsOf(base, before.id),
    ],
  );
}

export function deleteService(env: Env, before: ServiceRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameService(before.id, before), (base) => [
    bumpCardsOf(base, before.id),
    base.delete(listings).where(eq(listings.serviceId, before.id)),
    base.delete(services).where(eq(services.id, before.id)),
  ]);
}

// ---------------------------------------------------------------------------------------------- cards and listings

/** Lists a card in a service, and creates the card when `before` is null. */
export function putListing(
  env: Env,
  before: CardRow | null,
  card: CardRow,
  listing: ListingRow,
  change: Change,
): Promise<Outcome> {
  const serviceStands = sql`EXISTS (SELECT 1 FROM services WHERE id = ${listing.serviceId})`;
  return commit(env, change, sql`${sameCard(card.id, before)} AND ${serviceStands}`, (base) => {
    const { server, gpu, slots, state } = card;
    const set = { server, gpu, slots, state, version: grown(cards.version) };
    const { origin, transport, weight } = listing;
    return [
      base.insert(cards).values(card).onConflictDoUpdate({ target: cards.id, set }),
      base
        .insert(listings)
        .values(listing)
        .onConflictDoUpdate({ target: [listings.serviceId, listings.cardId], set: { origin, transport, weight } }),
      bumpServicesOf(base, card.id),
    ];
  });
}

export function deleteListing(env: Env, card: CardRow, listing: ListingRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameCard(card.id, card), (base) => [
    bumpServicesOf(base, card.id),
    base
      .update(cards)
      .set({ version: grown(cards.version) })
      .where(eq(cards.id, card.id)),
    base.delete(listings).where(sql`${listings.serviceId} = ${listing.serviceId} AND ${listings.cardId} = ${card.id}`),
  ]);
}

export function patchCard(env: Env, before: CardRow, after: CardRow, change: Change): Promise<Outcome> {
  const { server, gpu, slots, state } = after;
  return commit(env, change, sameCard(before.id, before), (base) => [
    base
      .update(cards)
      .set({ server, gpu, slots, state, version: grown(cards.version) })
      .where(eq(cards.id, before.id)),
    bumpServicesOf(base, before.id),
  ]);
}

/** The objects do not hold tokens, so versions stay the same. */
export function setCardToken(env: Env, before: CardRow, tokenHash: string, change: Change): Promise<Outcome> {
  return commit(env, change, sameCard(before.id, before), (base) => [
    base.update(cards).set({ tokenHash }).where(eq(cards.id, before.id)),
  ]);
}

/** Deletes a card that no service lists. If one has listed it meanwhile, the card's version differs: `stale`. */
export function deleteCard(env: Env, before: CardRow, change: Change): Promise<Outcome> {
  return commit(env, change, sameCard(before.id, before), (base) => [
    base.delete(cards).where(eq(cards.id, before.id)),
  ]);
}
