/**
 * Authentication for every path that needs a tenant's key: identifies the caller, logs it, sets its limit headers, and
 * checks its scope.
 */
import { authenticate, type Caller, mayUse } from "../auth.ts";
import type { Env } from "../env.ts";
import { ratePolicy } from "../limits.ts";
import { isRefusal, type Refusal } from "../refusal.ts";
import type { Scope } from "./tenant.ts";
import { limitsIn } from "./tenant-limits.ts";
import { timed, type Trace } from "../trace.ts";

/** Returns the caller if its key has the scope. The limits in the headers are those of `service`, if given. */
export async function callerWith(
  scope: Scope,
  { request, env, trace, service }: { request: Request; env: Env; trace: Trace; service?: { id: string } },
): Promise<Caller | Refusal> {
  const caller = await timed(trace, "auth", () => authenticate(request, env));
  if (isRefusal(caller)) return caller;
  trace.pages = caller.origins;
  const limits = service === undefined ? caller.limits : limitsIn(caller.limits, service.id);
  trace.headers.set("ratelimit-policy", ratePolicy(limits));
  Object.assign(trace.fields, { tenant: caller.tenant, key: caller.key });
  const denied = mayUse(caller, scope);
  if (denied !== null) return denied;
  trace.credential = { of: "key", id: caller.key };
  return caller;
}
