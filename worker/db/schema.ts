/**
 * Tables for configuration, and for records that must be listed or kept. Times are ms since the epoch. Results
 * themselves are in R2; slots and lines are in the objects.
 */
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, real, sqliteTable, text } from "drizzle-orm/sqlite-core";

export const tenants = sqliteTable("tenants", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  limits: text("limits", { mode: "json" }).notNull(),
  weight: real("weight").notNull().default(1),
  state: text("state", { enum: ["active", "disabled"] })
    .notNull()
    .default("active"),
  /** Web origins whose pages may call with this tenant's keys (CORS). */
  origins: text("origins", { mode: "json" })
    .$type<string[]>()
    .notNull()
    .default(sql`'[]'`),
  createdAt: integer("created_at").notNull(),
});

/** People and machines that run the deployment, besides the admin token. */
export const operators = sqliteTable("operators", {
  id: text("id").primaryKey(),
  /** The actor in the audit log. */
  name: text("name").notNull().unique(),
  /** Identifies the operator behind Cloudflare Access; null: by token only. */
  email: text("email").unique(),
  role: text("role", { enum: ["read", "ops", "admin"] }).notNull(),
  /** HMAC-SHA-256 of the token under the deployment's key secret, hex; null: through Access only. */
  tokenHash: text("token_hash").unique(),
  /** Hash of the previous token, and until when it remains valid; null: there is none. */
  earlierHash: text("earlier_hash"),
  earlierUntil: integer("earlier_until"),
  state: text("state", { enum: ["active", "revoked"] })
    .notNull()
    .default("active"),
  createdAt: integer("created_at").notNull(),
  createdBy: text("created_by").notNull(),
  expiresAt: integer("expires_at"),
  revokedAt: integer("revoked_at"),
  lastUsedAt: integer("last_used_at"),
});

export const keys = sqliteTable(
  "keys",
  {
    /** The public part of the key. */
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    name: text("name"),
    /** HMAC-SHA-256 of the whole key under the deployment's key secret, hex. */
    hash: text("hash").notNull(),
    /** Last four characters, so that a person can tell keys apart. */
    tail: text("tail").notNull(),
    /** Null: all scopes. */
    scopes: text("scopes", { mode: "json" }).$type<string[]>(),
    /** Null: all services. */
    services: text("services", { mode: "json" }).$type<string[]>(),
    state: text("state", { enum: ["active", "disabled", "revoked"] })
      .notNull()
      .default("active"),
    createdAt: integer("created_at").notNull(),
    createdBy: text("created_by").notNull(),
    expiresAt: integer("expires_at"),
    revokedAt: integer("revoked_at"),
    lastUsedAt: integer("last_used_at"),
    /** The key that this one was rotated from. */
    rotatedFrom: text("rotated_from"),
  },
  (t) => [index("keys_tenant").on(t.tenantId, t.createdAt)],
);

export const services = sqliteTable("services", {
  id: text("id").primaryKey(),
  route: text("route").notNull().unique(),
  /** The whole service as the admin API shows it (`Service` in worker/services/service.ts). */
  config: text("config", { mode: "json" }).notNull(),
  paused: integer("paused", { mode: "boolean" }).notNull().default(false),
  /** Grows with every change to the service, its listings or their cards. */
  version: integer("version").notNull(),
  createdAt: integer("created_at").notNull(),
});

export const cards = sqliteTable("cards", {
  id: text("id").primaryKey(),
  server: text("server"),
  gpu: integer("gpu"),
  slots: integer("slots").notNull().default(2),
  state: text("state", { enum: ["active", "draining", "disabled"] })
    .notNull()
    .default("active"),
  /** HMAC-SHA-256 of the agent's token under the deployment's key secret, hex. */
  tokenHash: text("token_hash").notNull(),
  version: integer("version").notNull(),
  createdAt: integer("created_at").notNull(),
});

export const listings = sqliteTable(
  "listings",
  {
    serviceId: text("service_id").notNull(),
    cardId: text("card_id").notNull(),
    origin: text("origin").notNull(),
    transport: text("transport", { enum: ["direct", "tunnel", "vpc"] })
      .notNull()
      .default("direct"),
    weight: real("weight").notNull().default(1),
  },
  (t) => [primaryKey({ columns: [t.serviceId, t.cardId] }), index("listings_card").on(t.cardId)],
);

export const results = sqliteTable(
  "results",
  {
    id: text("id").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id").notNull(),
    requestId: text("request_id").notNull(),
    modelVersion: text("model_version"),
    contentType: text("content_type").notNull(),
    bytes: integer("bytes").notNull(),
    /** Hex. */
    sha256: text("sha256").notNull(),
    visibility: text("visibility", { enum: ["private", "signed", "public"] })
      .notNull()
      .default("signed"),
    /** R2 key of the stored answer that contains this result; null when the answer was not stored. */
    answerKey: text("answer_key"),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [
    index("results_tenant").on(t.tenantId, t.createdAt),
    index("results_expiry").on(t.expiresAt),
    index("results_answer").on(t.answerKey),
  ],
);

/** One row per stored answer: the index of what the result cache holds in R2. */
export const answers = sqliteTable(
  "answers",
  {
    /** R2 key: `<tenant>/answers/<fingerprint>`, or `shared/answers/<fingerprint>`. */
    key: text("key").primaryKey(),
    tenantId: text("tenant_id").notNull(),
    serviceId: text("service_id").notNull(),
    modelVersion: text("model_version"),
    bytes: integer("bytes").notNull(),
    createdAt: integer("created_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
  },
  (t) => [index("answers_expiry").on(t.expiresAt), index("answers_tenant").on(t.tenantId)],
);

export const audit = sqliteTable(
  "audit",
  {
    id: integer("id").primaryKey({ autoIncrement: true }),
    at: integer("at")
      .notNull()
      .default(sql`(unixepoch() * 1000)`),
    /** `admin`, or an operator's name. */
    actor: text("actor").notNull(),
    /** `service.put`, `key.create`, ... */
    action: text("action").notNull(),
    /** Id of what was changed. */
    target: text("target").notNull(),
    before: text("before", { mode: "json" }),
    after: text("after", { mode: "json" }),
    requestId: text("request_id").notNull(),
  },
  (t) => [index("audit_target").on(t.target, t.id)],
);
