/** Notes in the Tenant object how a request ended that it admitted, and what it took. A job notes that itself. */
import { type Charge, NOTHING_SPENT, type RunState, type Spent } from "../../durable-objects/tenant-protocol.ts";
import { countsOf } from "../caller/price.ts";
import { REASONS, type Refusal } from "../refusal.ts";
import { repeated } from "../results/repeated.ts";
import type { Running } from "../run.ts";
import { answered } from "../../durable-objects/answer-protocol.ts";
import { unlessLate } from "./until.ts";

/** A caller waits no longer for what a GPU ran to be written, ms. */
const WRITTEN_MS_MAX = 1_000;

/** What a run took, beside its time. */
export type Took = Partial<Pick<Spent, "bytes" | "results" | "reason">>;

type Admitted = Pick<Running, "env" | "ctx" | "caller" | "trace" | "ask"> & Partial<Pick<Running, "job" | "ended">>;

/**
 * Told until it is heard, at most a few times. Ends at once where nothing ran; what a GPU ran is written before its
 * caller has the answer, so that no crash in between leaves it out.
 */
export async function record(
  { env, ctx, caller, trace, ask, job, ended }: Admitted,
  state: RunState,
  status: number | null,
  results: string[],
  charge: Charge,
  took: Took,
): Promise<void> {
  ended?.({ state, status, results, charge, took });
  // A job says in the end what all its tries took.
  if (job) return;
  const { clientId, startedAt: at, gpuMs } = trace;
  const { costMilli } = countsOf(ask);
  const admitted = { clientId, service: ask.service.id, key: caller.key, costMilli, at };
  const spent: Spent = { ...NOTHING_SPENT, ...took, gpuMs, admitted };
  const tenant = env.TENANT.getByName(caller.tenant);
  const told = repeated(() => answered(tenant.record(trace.id, state, status, results, charge, spent))).catch(
    (error: unknown) =>
      console.warn(JSON.stringify({ event: "record_lost", request: trace.id, ...spent, error: String(error) })),
  );
  ctx.waitUntil(told);
  if (gpuMs > 0) await unlessLate(told, Date.now() + WRITTEN_MS_MAX);
}

/** The last word on a request that was admitted and got no answer: its record, its token back, the refusal. */
export async function end(admitted: Admitted, state: "failed" | "canceled", refusal: Refusal): Promise<Refusal> {
  const { body } = admitted.ask;
  if (body.kind === "bytes") body.room.free();
  const { reason } = refusal;
  await record(admitted, state, REASONS[reason].status, [], "nothing", { reason });
  return refusal;
}
