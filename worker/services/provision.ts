/**
 * Sends configuration to the objects. D1 is the source of truth; Pools and Cards hold versioned copies. Called after
 * every change, and again when a request finds an object that is behind.
 */
import { withTimeout } from "../../durable-objects/timeout.ts";
import type { CardConfig } from "../../durable-objects/card-protocol.ts";
import type { PoolConfig } from "../../durable-objects/pool-protocol.ts";
import {
  cardsOfService,
  listingsOfCards,
  serviceById,
  type CardRow,
  type ListingRow,
  type ServiceRow,
} from "../db/queries.ts";
import type { Env } from "../env.ts";

/** Cards configured concurrently. */
const TOLD_AT_ONCE = 20;

/** Brings a service's Pool and its Cards up to date with D1. The Pool is configured even if a Card does not respond. */
export async function provision(env: Env, serviceId: string): Promise<void> {
  const [service, cards] = await Promise.all([serviceById(env, serviceId), cardsOfService(env, serviceId)]);
  if (service === null) {
    await retirePool(env, serviceId);
    return;
  }
  await provisionCards(
    env,
    cards.map((c) => c.card),
  );
  await withTimeout(env.POOL.getByName(serviceId).configure(poolConfig(service, cards)));
}

/**
 * Brings these Cards up to date with D1. A card that no service lists gets an empty list and takes no work. A Card that
 * does not respond keeps its old configuration and does not hold up the others.
 */
export async function provisionCards(env: Env, cards: CardRow[]): Promise<void> {
  for (let i = 0; i < cards.length; i += TOLD_AT_ONCE) {
    const some = cards.slice(i, i + TOLD_AT_ONCE);
    const listings = await listingsOfCards(
      env,
      some.map((card) => card.id),
    );
    await Promise.all(
      some.map((card) => {
        const own = listings.filter((l) => l.listing.cardId === card.id);
        return tellCard(env, cardConfig(card, own));
      }),
    );
  }
}

async function tellCard(env: Env, config: CardConfig): Promise<void> {
  try {
    await withTimeout(env.CARD.getByName(config.card).configure(config));
  } catch (error) {
    console.warn(JSON.stringify({ event: "card_update_failed", card: config.card, error: String(error) }));
  }
}

/** Retires the Pool of a deleted service: it gets no cards and no waiting room. */
async function retirePool(env: Env, serviceId: string): Promise<void> {
  const pool = env.POOL.getByName(serviceId);
  // The service's version was deleted with its row; the Pool knows the highest version that existed.
  const { version } = await withTimeout(pool.status());
  const none = { service: serviceId, paused: false, queue: { max: 0, timeoutMs: 1000 }, cards: [] };
  await withTimeout(pool.configure({ version: Math.max(Date.now(), version + 1), ...none }));
}

function poolConfig(service: ServiceRow, cards: { card: CardRow; listing: ListingRow }[]): PoolConfig {
  const { queue } = service.config;
  return {
    version: service.version,
    service: service.id,
    paused: service.paused,
    queue: { max: queue.max, timeoutMs: queue.timeout_s * 1000 },
    cards: cards.map(({ card, listing }) => ({ card: card.id, weight: listing.weight, version: card.version })),
  };
}

function cardConfig(card: CardRow, listed: { listing: ListingRow; service: ServiceRow }[]): CardConfig {
  return {
    version: card.version,
    card: card.id,
    slots: card.slots,
    state: card.state,
    listings: listed.map(({ listing, service }) => ({
      service: listing.serviceId,
      origin: listing.origin,
      transport: listing.transport,
      breaker: {
        maxFails: service.config.breaker.max_fails,
        failTimeoutMs: service.config.breaker.fail_timeout_s * 1000,
      },
      drain: { probe: service.config.drain.probe, maxMs: service.config.drain.max_s * 1000 },
      abandon: service.config.abandon,
    })),
  };
}
