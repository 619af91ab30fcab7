/** Read-only lists: the audit log, and the leases of all cards. */
import { z } from "zod";
import type { LeaseRecord } from "../../durable-objects/card-protocol.ts";
import { pageOfAudit, pageOfCards } from "../db/list-queries.ts";
import type { Env } from "../env.ts";
import { cardStatuses } from "../operate/live.ts";
import { isRefusal, type Refusal } from "../refusal.ts";
import { listOf, page, PageQuery, positionOf } from "../api/page.ts";
import { type Answer, route, type Route } from "./route.ts";
import { AuditView, auditView } from "./views.ts";
import { iso, isoOrNull, Time } from "../api/time.ts";

/** Cards queried per round when listing leases. */
const CARDS_AT_ONCE = 100;

const LeaseView = z
  .object({
    card: z.string(),
    number: z.int().meta({ description: "Increases with every lease of the card." }),
    state: z.enum(["leased", "draining"]),
    age_ms: z.int(),
    holder: z.string().meta({ description: "Id of the request that holds the slot." }),
    tenant: z.string(),
    service: z.string(),
    attempt: z.string(),
    claimed_at: Time,
    renewed_at: Time,
    expires_at: Time,
    drain_until: Time.nullable().meta({ description: "Latest time at which a draining slot becomes free." }),
  })
  .meta({ id: "LeaseView" });

const AuditQuery = PageQuery.extend({
  target: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "Only changes to this id; the id of a listing is `SERVICE/CARD`." }),
});

export const ledgerRoutes: Route[] = [
  route({
    method: "GET",
    path: "/v1/leases",
    role: "read",
    tag: "Ledger",
    summary: "List held slots",
    description: "Read from the cards' Durable Objects. A card that does not answer in time is left out.",
    query: PageQuery,
    answers: { 200: { description: "Leases by card and number.", schema: listOf(LeaseView) } },
    run: ({ env, query }) => leases(env, query),
  }),
  route({
    method: "GET",
    path: "/v1/audit",
    role: "read",
    tag: "Ledger",
    summary: "List changes",
    query: AuditQuery,
    answers: { 200: { description: "Changes, the newest first.", schema: listOf(AuditView) } },
    run: async ({ env, query }) => {
      const from = positionOf(query.cursor, z.tuple([z.int()]));
      if (isRefusal(from)) return from;
      const rows = await pageOfAudit(env, query.target, from.at, query.limit);
      return page(rows, query.limit, (row) => [row.id], auditView);
    },
  }),
];

async function leases(env: Env, query: z.output<typeof PageQuery>): Promise<Answer | Refusal> {
  const from = positionOf(query.cursor, z.tuple([z.string(), z.int()]));
  if (isRefusal(from)) return from;
  const [card, number] = from.at ?? [undefined, 0];
  const found = await leasesFrom(env, card, number, query.limit + 1);
  const now = Date.now();
  return page(
    found,
    query.limit,
    (lease) => [lease.card, lease.number],
    (lease) => leaseView(lease, now),
  );
}

/** Returns leases after (card, number), walking the cards in id order, until at least `wanted` are found. */
async function leasesFrom(env: Env, card: string | undefined, number: number, wanted: number): Promise<LeaseRecord[]> {
  const found: LeaseRecord[] = [];
  let cards = await pageOfCards(env, card, "from", CARDS_AT_ONCE);
  // Terminates: every round starts at a later card, and there are at most CARDS_MAX.
  while (cards.length > 0 && found.length < wanted) {
    const ids = cards.slice(0, CARDS_AT_ONCE).map((row) => row.id);
    const statuses = await cardStatuses(env, ids);
    for (const id of ids) {
      const held = (statuses.get(id)?.leases ?? []).map((lease) => ({ ...lease, card: id }));
      const later = held.filter((lease) => id !== card || lease.number > number);
      found.push(...later.toSorted((a, b) => a.number - b.number));
    }
    const next = cards.at(CARDS_AT_ONCE);
    cards = next === undefined ? [] : await pageOfCards(env, next.id, "from", CARDS_AT_ONCE);
  }
  return found;
}

function leaseView(lease: LeaseRecord, now: number): z.infer<typeof LeaseView> {
  return {
    card: lease.card,
    number: lease.number,
    state: lease.state,
    age_ms: Math.max(0, now - lease.claimedAt),
    holder: lease.request,
    tenant: lease.tenant,
    service: lease.service,
    attempt: lease.attempt,
    claimed_at: iso(lease.claimedAt),
    renewed_at: iso(lease.renewedAt),
    expires_at: iso(lease.expiresAt),
    drain_until: isoOrNull(lease.drainUntil),
  };
}
