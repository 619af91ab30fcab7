/**
 * Counts cache hits and requests refused before admission without an object call: they are collected here and delivered
 * to their Tenants in batches. Counts that an isolate loses when it ends are missing from the usage.
 */
import { dayOf, type UsageOf, type UsageRow } from "../../durable-objects/tenant-protocol.ts";
import type { Env } from "../env.ts";
import { isRefusal, type Refusal } from "../refusal.ts";
import { repeated } from "../results/repeated.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { unlessLate } from "../run/until.ts";

/** How long a batch collects counts before delivery. */
const SOON_MS = 1_000;
/** A batch with this many requests is delivered at once. */
const REQUESTS_MAX = 500;
/** Maximum number of undelivered batches; beyond it, requests are not counted. */
const BATCHES_MAX = 32;
/** A batch overdue by this much has lost the request that was going to deliver it. */
const LOST_MS = 5_000;
/** Tenants called concurrently. */
const TOLD_AT_ONCE = 50;
/** Longest that a reader of the usage waits for deliveries. */
const TALLIED_MS_MAX = 2_000;

interface Row extends UsageRow {
  tenant: string;
}

interface Batch {
  /** Makes the delivery idempotent. */
  id: string;
  rows: Map<string, Row>;
  requests: number;
  dueAt: number;
  /** Delivery has begun: counts added now would be lost. */
  closed: boolean;
}

interface Counting {
  env: Env;
  ctx: { waitUntil(promise: Promise<unknown>): void };
}

/** Undelivered batches; only the last one may be open. */
const batches = new Set<Batch>();
/** Requests that were not counted and not logged yet. */
let lost = 0;

/** Counts a tenant's request that was answered from the cache, or refused before admission. */
export function count(
  { env, ctx }: Counting,
  { tenant, service, key }: Omit<UsageOf, "day"> & { tenant: string },
  outcome: Pick<Response, "headers"> | Refusal,
): void {
  const now = Date.now();
  for (const batch of batches) {
    if (now - batch.dueAt < LOST_MS) continue;
    batch.dueAt = now;
    ctx.waitUntil(handOn(env, batch));
  }
  const last = [...batches].at(-1);
  if (last?.closed !== false && batches.size >= BATCHES_MAX) {
    lost++;
    return;
  }
  const batch = last?.closed === false ? last : open(now);
  if (batch !== last) ctx.waitUntil(handOnSoon(env, batch));
  add(batch, { tenant, day: dayOf(now), service, key }, outcome);
  if (batch.requests >= REQUESTS_MAX) ctx.waitUntil(handOn(env, batch));
}

/** Delivers what this isolate has counted. */
export async function tallied(env: Env): Promise<void> {
  await unlessLate(Promise.all(Array.from(batches, (batch) => handOn(env, batch))), Date.now() + TALLIED_MS_MAX);
}

function open(now: number): Batch {
  const batch = { id: crypto.randomUUID(), rows: new Map(), requests: 0, dueAt: now + SOON_MS, closed: false };
  batches.add(batch);
  if (lost > 0) console.warn(JSON.stringify({ event: "counts_lost", requests: lost }));
  lost = 0;
  return batch;
}

function add(batch: Batch, of: UsageOf & { tenant: string }, outcome: Pick<Response, "headers"> | Refusal): void {
  const name = JSON.stringify(of);
  const row = batch.rows.get(name) ?? {
    ...of,
    requests: 0,
    hits: 0,
    results: 0,
    bytes: 0,
    gpuMs: 0,
    costMilli: 0,
    refusals: {},
  };
  batch.rows.set(name, row);
  batch.requests++;
  row.requests++;
  if (isRefusal(outcome)) {
    row.refusals[outcome.reason] = (row.refusals[outcome.reason] ?? 0) + 1;
  } else {
    row.hits++;
    row.bytes += Number(outcome.headers.get("content-length"));
  }
}

async function handOnSoon(env: Env, batch: Batch): Promise<void> {
  await scheduler.wait(SOON_MS);
  if (!batch.closed) await handOn(env, batch);
}

async function handOn(env: Env, batch: Batch): Promise<void> {
  batch.closed = true;
  const tenants = [...Map.groupBy(batch.rows.values(), (row) => row.tenant)];
  for (let i = 0; i < tenants.length; i += TOLD_AT_ONCE)
    await Promise.all(tenants.slice(i, i + TOLD_AT_ONCE).map(([tenant, rows]) => tell(env, tenant, batch.id, rows)));
  batches.delete(batch);
}

async function tell(env: Env, tenant: string, batch: string, rows: UsageRow[]): Promise<void> {
  try {
    await repeated(() => withTimeout(env.TENANT.getByName(tenant).tally(batch, rows)));
  } catch (error) {
    console.warn(JSON.stringify({ event: "counts_lost", tenant, error: String(error) }));
  }
}
