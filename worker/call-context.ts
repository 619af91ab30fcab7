/** The context of one call, shared by our own routes and the dialects of other APIs. */
import type { Env } from "./env.ts";
import type { Trace } from "./trace.ts";

/** `base`: our public address. */
export interface CallContext {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
}
