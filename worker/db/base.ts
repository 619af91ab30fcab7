/** The database handle, and D1's limit on parameters. */
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import type { Env } from "../env.ts";

export type Base = DrizzleD1Database & { $client: D1Database };

/** Maximum bound parameters we use in a query; D1 allows 100. */
export const BOUND_MAX = 90;

export const db = (env: Env): Base => drizzle(env.DB);
