/** A Job's calls to other objects: it reports its state and asks for its position. */
import { withTimeout } from "./timeout.ts";
import type { CourierRpc } from "./courier-protocol.ts";
import type { BacklogRpc, JobSpec, JobState } from "./job-protocol.ts";
import { pauseOf } from "./job-state.ts";
import type { Outlook } from "./pool-protocol.ts";
import { NOTHING_SPENT, type TenantRpc } from "./tenant-protocol.ts";

/** Timeout, ms, for each of the two calls that determine a job's position. */
const PLACE_MS_MAX = 1_000;

export interface JobEnv {
  BACKLOG: { getByName(name: string): BacklogRpc };
  COURIER: { getByName(name: string): CourierRpc };
  TENANT: { getByName(name: string): TenantRpc };
  RESULTS: { delete(key: string): Promise<void> };
  POOL: { getByName(name: string): { outlook(request: string, tenant: string, concurrent: number): Promise<Outlook> } };
}

/** Reports the state to the Backlog, and the end to Tenant (for billing) and Courier. Throws unless all succeed. */
export async function tell(env: JobEnv, spec: JobSpec, state: JobState, concurrent: number | null): Promise<void> {
  const backlog = env.BACKLOG.getByName(spec.tenant);
  const heard = [
    backlog.changed(spec.id, state.status, pauseOf(state), concurrent),
    settle(env, spec, state),
    notify(env, spec, state),
  ];
  await withTimeout(Promise.all(heard));
}

/** Reports the final cost to the Tenant and deletes the input. */
async function settle(env: JobEnv, spec: JobSpec, state: JobState): Promise<void> {
  const { status, finishedAt, results, gpuMs, bill } = state;
  if (finishedAt === null || bill === null) return;
  const { id, service, key, costMilli, createdAt: at } = spec;
  const spent = { ...NOTHING_SPENT, ...bill.took, gpuMs, admitted: { clientId: null, service, key, costMilli, at } };
  const made = results.map((result) => result.id);
  await env.TENANT.getByName(spec.tenant).record(id, status, bill.status, made, bill.charge, spent);
  await dropInput(env, spec);
}

export async function dropInput({ RESULTS }: JobEnv, { input }: JobSpec): Promise<void> {
  if (input.kind === "r2") await RESULTS.delete(input.key);
}

/** Hands the start and end of the job to the Courier for its webhook. The Courier ignores repeats. */
async function notify({ COURIER }: JobEnv, { id, tenant, webhook }: JobSpec, state: JobState): Promise<void> {
  if (webhook === null) return;
  const { status, startedAt, finishedAt } = state;
  const { url, dialect, moments = ["end"] } = webhook;
  const subject = { kind: "job" as const, id };
  const bring = (type: string, at: number): Promise<void> =>
    COURIER.getByName(tenant).enqueue({ tenant, subject, type, at, url, dialect });
  // The job may end before its start has been reported.
  if (startedAt !== null && moments.includes("start")) await bring("job.started", startedAt);
  if (finishedAt !== null && moments.includes("end")) await bring(`job.${status}`, finishedAt);
}

/** The Pool's estimate for the job. A job asleep in the Backlog is placed behind its tenant's queued ones. */
export async function outlookOf({ BACKLOG, POOL }: JobEnv, { id, tenant, service }: JobSpec): Promise<Outlook> {
  try {
    const { ahead, concurrent } = await withTimeout(BACKLOG.getByName(tenant).place(id), PLACE_MS_MAX);
    const outlook = await withTimeout(POOL.getByName(service).outlook(id, tenant, concurrent), PLACE_MS_MAX);
    if (outlook.waiting === null || ahead === 0) return outlook;
    const { on, position, startMs } = outlook.waiting;
    const start = startMs === null || outlook.slotMs === null ? null : startMs + ahead * outlook.slotMs;
    // It sleeps although a slot is free: its tenant has started as many jobs as it may.
    return { ...outlook, waiting: { on: on ?? "tenant_cap", position: (position ?? 1) + ahead, startMs: start } };
  } catch (error) {
    console.warn(JSON.stringify({ event: "estimate_unavailable", job: id, error: String(error) }));
    return { waiting: null, serviceMs: null, slotMs: null, firstByteMs: null };
  }
}
