/**
 * Commits an operator's change as one batch, which D1 runs as one transaction. Its audit row comes first and checks
 * that the state on which the change is based is unchanged; otherwise the whole batch fails. No secret reaches the
 * audit log.
 */
import { type SQL, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import type { Env } from "../env.ts";
import { type Base, db } from "./base.ts";
import { audit } from "./schema.ts";

/** A change as the audit log records it. */
export interface Change {
  actor: string;
  /** `service.put`, `key.revoke`, ... */
  action: string;
  target: string;
  before: object | null;
  after: object | null;
  requestId: string;
}

/** Columns that must be unique, besides the id, and the outcome when they are not. */
const UNIQUE = {
  "services.route": "route_taken",
  "operators.name": "name_taken",
  "operators.email": "email_taken",
} as const;

export type Taken = (typeof UNIQUE)[keyof typeof UNIQUE];
/** `stale`: the state on which the change is based has changed; read it again. Taken: another row has this value. */
export type Outcome = "done" | "stale" | Taken;

type Write = BatchItem<"sqlite">;

export async function commit(
  env: Env,
  change: Change,
  unchanged: SQL,
  writes: (base: Base) => Write[],
): Promise<Outcome> {
  const base = db(env);
  const { action, target, before, after, requestId } = change;
  // The actor column is NOT NULL, so a stale change fails here and D1 rolls the batch back.
  const actor = sql<string>`CASE WHEN ${unchanged} THEN ${change.actor} END`;
  const row = base.insert(audit).values({ at: Date.now(), actor, action, target, before, after, requestId });
  try {
    await base.batch([row, ...writes(base)]);
    return "done";
  } catch (error) {
    const said = causes(error);
    if (said.includes("NOT NULL constraint failed: audit.actor")) return "stale";
    for (const [column, taken] of Object.entries(UNIQUE))
      if (said.includes(`UNIQUE constraint failed: ${column}`)) return taken;
    throw error;
  }
}

function causes(error: unknown): string {
  return error instanceof Error ? `${error.message}\n${causes(error.cause)}` : "";
}
