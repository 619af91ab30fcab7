/** A mouth: our own routes, or a dialect of somebody else's API. What it has in hand for each call. */
import type { Env } from "./env.ts";
import type { Trace } from "./trace.ts";

/** The caller's request, and our public address. */
export interface Mouth {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
}
