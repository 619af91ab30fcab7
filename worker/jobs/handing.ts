/** What every call about jobs is served with. */
import { type Caller, clientAddress } from "../auth.ts";
import type { Env } from "../env.ts";
import type { Trace } from "../trace.ts";
import type { Handing } from "./submit.ts";

export interface Asking {
  request: Request;
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
  trace: Trace;
  base: string;
}

export function handing({ request, env, trace, base }: Asking, caller: Caller): Handing {
  return { env, trace, caller, base, clientAddress: clientAddress(request, env) };
}
