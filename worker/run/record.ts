/** Records in the Tenant how an admitted request ended and what it used. Jobs record that themselves. */
import { type Charge, NOTHING_SPENT, type RunState, type Spent } from "../../durable-objects/tenant-protocol.ts";
import { countsOf } from "../caller/price.ts";
import { REASONS, type Refusal } from "../refusal.ts";
import { repeated } from "../results/repeated.ts";
import type { Running, Unkept } from "../run.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { unlessLate } from "./until.ts";

/** Longest that a caller waits for the record of a GPU run to be written, ms. */
const WRITTEN_MS_MAX = 1_000;

/** What a run used, besides its time. */
export type Took = Partial<Pick<Spent, "bytes" | "results" | "reason">>;

type Admitted = Pick<Running, "env" | "ctx" | "caller" | "trace" | "ask"> & Partial<Pick<Running, "job" | "ended">>;

/**
 * Retries a few times until the Tenant confirms. Does not wait when nothing ran on a GPU. A GPU run is written before
 * its caller gets the answer, so that a crash in between does not lose it.
 */
export async function record(
  { env, ctx, caller, trace, ask, job, ended }: Admitted,
  state: RunState,
  status: number | null,
  results: string[],
  charge: Charge,
  took: Took,
  unkept: Unkept | null = null,
): Promise<void> {
  ended?.({ state, status, results, charge, took, unkept });
  // A job reports the total of all its tries at its end.
  if (job) return;
  const { clientId, startedAt: at, gpuMs } = trace;
  const { costMilli } = countsOf(ask);
  const admitted = { clientId, service: ask.service.id, key: caller.key, costMilli, at };
  const spent: Spent = { ...NOTHING_SPENT, ...took, gpuMs, admitted };
  const tenant = env.TENANT.getByName(caller.tenant);
  const told = repeated(() => withTimeout(tenant.record(trace.id, state, status, results, charge, spent))).catch(
    (error: unknown) =>
      console.warn(JSON.stringify({ event: "record_lost", request: trace.id, ...spent, error: String(error) })),
  );
  ctx.waitUntil(told);
  if (gpuMs > 0) await unlessLate(told, Date.now() + WRITTEN_MS_MAX);
}

/** Ends an admitted request without an answer: frees its body and records it at no charge. Returns the refusal. */
export async function end(admitted: Admitted, state: "failed" | "canceled", refusal: Refusal): Promise<Refusal> {
  const { body } = admitted.ask;
  if (body.kind === "bytes") body.room.free();
  const { reason } = refusal;
  await record(admitted, state, REASONS[reason].status, [], "nothing", { reason });
  return refusal;
}
