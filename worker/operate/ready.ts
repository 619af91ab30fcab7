/** Readiness of this deployment: checks configuration, database, store and objects, each with a timeout. */
import { z } from "zod";
import { countServices } from "../db/list-queries.ts";
import { config, type Env } from "../env.ts";
import { ANSWER_MS_MAX, within } from "./live.ts";

/** Names of the checks; they reveal no host. */
const REASONS = ["configuration", "database", "results", "objects"] as const;

export const Readiness = z
  .object({
    status: z.enum(["ready", "not_ready"]),
    reasons: z.array(z.enum(REASONS)).meta({ description: "What is misconfigured or does not answer." }),
  })
  .meta({ id: "Readiness" });
export type Readiness = z.infer<typeof Readiness>;

/** Not a valid service id, so this pool belongs to no service. */
const NOBODYS_POOL = "_ready";

export async function readiness(env: Env): Promise<Readiness> {
  const checks: Record<(typeof REASONS)[number], () => Promise<unknown>> = {
    configuration: async () => config(env),
    database: () => countServices(env),
    results: () => env.RESULTS.head("_ready"),
    objects: () => env.POOL.getByName(NOBODYS_POOL).status(),
  };
  const outcomes = await Promise.all(REASONS.map((reason) => within(ANSWER_MS_MAX, checks[reason])));
  const failed = REASONS.filter((reason, i) => {
    const outcome = outcomes[i];
    if (outcome?.ok !== false) return false;
    console.error(JSON.stringify({ event: "not_ready", reason, why: outcome.why }));
    return true;
  });
  return { status: failed.length === 0 ? "ready" : "not_ready", reasons: failed };
}
