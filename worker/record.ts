/** Notes in the Tenant object what became of a request that took a ticket; nobody waits for it. A job notes that itself. */
import type { Charge, RunState } from "../durable-objects/protocol.ts";
import { REASONS, type Refusal } from "./refusal.ts";
import type { Running } from "./run.ts";

export function record(
  { env, ctx, caller, trace, job, ended }: Running,
  state: RunState,
  status: number | null,
  results: string[],
  charge: Charge = "all",
): void {
  ended?.({ state, status, results, charge });
  if (job !== null) return;
  const kept = env.TENANT.getByName(caller.tenant).record(trace.id, state, status, results, charge);
  ctx.waitUntil(
    kept.catch((error: unknown) =>
      console.warn(JSON.stringify({ event: "record_lost", request: trace.id, error: String(error) })),
    ),
  );
}

/** The last word on a request that took a ticket and got no answer: its record, its token back, the refusal. */
export function end(running: Running, state: "failed" | "canceled", refusal: Refusal): Refusal {
  if (running.ask.body.kind === "bytes") running.ask.body.room.free();
  record(running, state, REASONS[refusal.reason].status, [], "nothing");
  return refusal;
}
