/**
 * How an operator's change is written: one batch, which D1 runs as one transaction: first its audit row, which checks
 * that what the change was computed from still stands and takes the whole batch down when it does not. No secret
 * reaches the audit log.
 */
import { type SQL, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import type { Env } from "../env.ts";
import { type Base, db } from "./base.ts";
import { audit } from "./schema.ts";

/** What the audit log keeps of a change. */
export interface Change {
  actor: string;
  /** `service.put`, `key.revoke`, ... */
  action: string;
  target: string;
  before: object | null;
  after: object | null;
  requestId: string;
}

/** What only one row may have, beside its id. */
const UNIQUE = {
  "services.route": "route_taken",
  "operators.name": "name_taken",
  "operators.email": "email_taken",
} as const;

export type Taken = (typeof UNIQUE)[keyof typeof UNIQUE];
/** `stale`: what the change was computed from has changed meanwhile; read again. Taken: another row has this. */
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
  // The actor may not be null, so a stale change fails here and D1 rolls the batch back.
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
