/** What every query stands on: the database, and its own limit. */
import { type DrizzleD1Database, drizzle } from "drizzle-orm/d1";
import type { Env } from "../env.ts";

export type Base = DrizzleD1Database & { $client: D1Database };

/** D1 takes at most 100 bound parameters a query. */
export const BOUND_MAX = 90;

export const db = (env: Env): Base => drizzle(env.DB);
