/** A tenant's limits: merging changes into them, and the limits that apply in one service. Pure. */
import { invalid, type Refusal } from "../refusal.ts";
import { given } from "../api/schema-parts.ts";
import { DEFAULT_LIMITS, type Limits, type LimitsPut } from "./tenant.ts";

/** Maximum services with limits of their own, per tenant: every isolate caches them with each of the tenant's keys. */
const SERVICES_MAX = 100;

/** Merges `put` into `before` and fills in the defaults. A service that is put as null loses its own limits. */
export function completeLimits(put: LimitsPut = {}, before: Partial<Limits> = {}): Limits | Refusal {
  const { services: changed = {}, ...rest } = put;
  const known = knownLimits(before);
  const services = new Map(Object.entries(known.services));
  for (const [id, limits] of Object.entries(changed)) {
    if (limits === null) services.delete(id);
    else services.set(id, { ...services.get(id), ...limits });
  }
  if (services.size > SERVICES_MAX) {
    return invalid("limits.services", "limits_services", { max: SERVICES_MAX });
  }
  return { ...known, ...given(rest), services: Object.fromEntries(services) };
}

/** The stored limits, completed with defaults and without settings that no longer exist. */
export function knownLimits(stored: Partial<Limits>): Limits {
  const services = Object.entries(stored.services ?? {}).map(([id, own]) => {
    // Older versions accepted `jobs_waiting` for a service and ignored it.
    const { jobs_waiting: _ignored, ...known } = own as typeof own & { jobs_waiting?: number };
    return [id, known] as const;
  });
  return { ...DEFAULT_LIMITS, ...stored, services: Object.fromEntries(services) };
}

/** The limits that apply in a service. */
export function limitsIn(limits: Limits, service: string): Limits {
  return { ...limits, ...given(ownOf(limits, service)) };
}

/** Whether a service has its own rate bucket. */
export function hasOwnRate(limits: Limits, service: string): boolean {
  const { requests_per_minute, burst } = ownOf(limits, service);
  return requests_per_minute !== undefined || burst !== undefined;
}

function ownOf({ services }: Limits, service: string) {
  return Object.hasOwn(services, service) ? (services[service] ?? {}) : {};
}
