/** The views of the admin API: a schema and a function for each kind of row. None contains hashes or tokens of rows. */
import { z } from "zod";
import type { PoolStatus } from "../../durable-objects/pool-protocol.ts";
import type { AuditRow } from "../db/list-queries.ts";
import type { OperatorRow } from "../db/operator-queries.ts";
import type { CardRow, KeyRow, ListingRow, ServiceRow, TenantRow } from "../db/queries.ts";
import { Id } from "../api/schema-parts.ts";
import { CardStateName, Service } from "../services/service.ts";
import { Limits, Scope, WebOrigins } from "../caller/tenant.ts";
import { knownLimits } from "../caller/tenant-limits.ts";
import { iso, isoOrNull, Time } from "../api/time.ts";
import { Role } from "./operator.ts";

export const ServiceView = z
  .object({
    id: Id,
    ...Service.shape,
    paused: z.boolean(),
    version: z.int().meta({ description: "Increases with every change to the service, its listings or their cards." }),
    created_at: Time,
    cards: z.array(z.string()).meta({ description: "Ids of the cards that the service lists." }),
  })
  .meta({ id: "ServiceView" });

export function serviceView(row: ServiceRow, listings: ListingRow[]): z.infer<typeof ServiceView> {
  const own = listings.filter((listing) => listing.serviceId === row.id);
  const { id, config, paused, version, createdAt } = row;
  return { id, ...config, paused, version, created_at: iso(createdAt), cards: own.map((listing) => listing.cardId) };
}

const Count = z.int();
const LineView = z.object({
  queued: Count,
  waiting_on: z
    .partialRecord(z.enum(["slots_busy", "tenant_cap", "no_healthy_card", "paused"]), Count)
    .meta({ description: "How many requests wait for which reason." }),
  oldest_wait_ms: Count,
  service_ms: z
    .number()
    .nullable()
    .meta({ description: "Mean duration of recent runs, ms; null before the first run." }),
  admitted: Count.meta({ description: "Runs that got a slot since the queue's Durable Object started." }),
  refused: z.record(z.string(), Count).meta({ description: "Refusals by reason, since the same time." }),
});

export const LiveServiceView = z
  .object({
    ...ServiceView.shape,
    live: LineView.nullable().meta({ description: "Null: the queue's Durable Object did not answer in time." }),
  })
  .meta({ id: "LiveServiceView" });

export function liveServiceView(
  row: ServiceRow,
  listings: ListingRow[],
  status: PoolStatus | undefined,
): z.infer<typeof LiveServiceView> {
  return { ...serviceView(row, listings), live: status === undefined ? null : lineView(status) };
}

function lineView(status: PoolStatus): z.infer<typeof LineView> {
  return {
    queued: status.queued,
    waiting_on: status.waitingFor,
    oldest_wait_ms: status.oldestWaitMs,
    service_ms: status.serviceMs,
    admitted: status.admitted,
    refused: status.refused,
  };
}

const ListingView = z.object({
  service: z.string(),
  origin: z.string(),
  transport: z.enum(["direct", "tunnel", "vpc"]),
  weight: z.number(),
});

const cardFields = {
  id: Id,
  server: z.string().nullable(),
  gpu: z.int().nullable(),
  slots: z.int(),
  state: CardStateName,
  version: z.int(),
  created_at: Time,
  listings: z.array(ListingView),
};

export const CardView = z.object(cardFields).meta({ id: "CardView" });

export const CardPutView = z
  .object({
    ...cardFields,
    token: z.string().optional().meta({ description: "The agent's token; only for a new card." }),
  })
  .meta({ id: "CardPutView" });

export function cardView(row: CardRow, listings: ListingRow[]): z.infer<typeof CardView> {
  const own = listings.filter((listing) => listing.cardId === row.id);
  return {
    id: row.id,
    server: row.server,
    gpu: row.gpu,
    slots: row.slots,
    state: row.state,
    version: row.version,
    created_at: iso(row.createdAt),
    listings: own.map(({ serviceId, origin, transport, weight }) => ({
      service: serviceId,
      origin,
      transport,
      weight,
    })),
  };
}

export const TenantView = z
  .object({
    id: z.string(),
    name: z.string(),
    limits: Limits,
    weight: z.number().meta({ description: "Share of the slots when tenants compete for them." }),
    origins: WebOrigins,
    state: z.enum(["active", "disabled"]),
    created_at: Time,
  })
  .meta({ id: "TenantView" });

export function tenantView(row: TenantRow): z.infer<typeof TenantView> {
  const { id, name, limits, weight, origins, state, createdAt } = row;
  return { id, name, limits: knownLimits(limits), weight, origins, state, created_at: iso(createdAt) };
}

const keyFields = {
  id: z.string(),
  tenant: z.string(),
  name: z.string().nullable(),
  tail: z.string().meta({ description: "The key's last four characters." }),
  scopes: z.array(Scope).nullable().meta({ description: "Null: all scopes." }),
  services: z.array(z.string()).nullable().meta({ description: "Null: all services." }),
  state: z.enum(["active", "disabled", "revoked"]),
  created_at: Time,
  created_by: z.string(),
  expires_at: Time.nullable(),
  revoked_at: Time.nullable(),
  last_used_at: Time.nullable().meta({ description: "Accurate to an hour." }),
  rotated_from: z.string().nullable(),
};

export const KeyView = z.object(keyFields).meta({ id: "KeyView" });

export const NewKeyView = z
  .object({ ...keyFields, key: z.string().meta({ description: "Shown only once." }) })
  .meta({ id: "NewKeyView" });

export function keyView(row: KeyRow): z.infer<typeof KeyView> {
  return {
    id: row.id,
    tenant: row.tenantId,
    name: row.name,
    tail: row.tail,
    scopes: row.scopes,
    services: row.services,
    state: row.state,
    created_at: iso(row.createdAt),
    created_by: row.createdBy,
    expires_at: isoOrNull(row.expiresAt),
    revoked_at: isoOrNull(row.revokedAt),
    last_used_at: isoOrNull(row.lastUsedAt),
    rotated_from: row.rotatedFrom,
  };
}

const operatorFields = {
  id: z.string(),
  name: z.string().meta({ description: "The actor in the audit log." }),
  role: Role,
  email: z.string().nullable().meta({ description: "Identity from Cloudflare Access; null: token only." }),
  has_token: z.boolean(),
  earlier_token_until: Time.nullable().meta({ description: "The previous token is accepted until then." }),
  state: z.enum(["active", "revoked"]),
  created_at: Time,
  created_by: z.string(),
  expires_at: Time.nullable(),
  revoked_at: Time.nullable(),
  last_used_at: Time.nullable().meta({ description: "Accurate to an hour." }),
};

export const OperatorView = z.object(operatorFields).meta({ id: "OperatorView" });

export const NewOperatorView = z
  .object({ ...operatorFields, token: z.string().optional().meta({ description: "Shown only once." }) })
  .meta({ id: "NewOperatorView" });

export function operatorView(row: OperatorRow): z.infer<typeof OperatorView> {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    email: row.email,
    has_token: row.tokenHash !== null,
    earlier_token_until: isoOrNull(row.earlierUntil),
    state: row.state,
    created_at: iso(row.createdAt),
    created_by: row.createdBy,
    expires_at: isoOrNull(row.expiresAt),
    revoked_at: isoOrNull(row.revokedAt),
    last_used_at: isoOrNull(row.lastUsedAt),
  };
}

export const AuditView = z
  .object({
    id: z.int(),
    at: Time,
    actor: z.string(),
    action: z.string(),
    target: z.string(),
    before: z.unknown().meta({ description: "Null for a creation." }),
    after: z.unknown().meta({ description: "Null for a deletion." }),
    request_id: z.string(),
  })
  .meta({ id: "AuditView" });

export function auditView(row: AuditRow): z.infer<typeof AuditView> {
  const { id, at, actor, action, target, before, after, requestId } = row;
  return {
    id,
    at: iso(at),
    actor,
    action,
    target,
    before: before ?? null,
    after: after ?? null,
    request_id: requestId,
  };
}
