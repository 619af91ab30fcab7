/**
 * `npm run bench:jobs`: many jobs of three tenants on twelve slots of simulated cards. How fast they are taken, how busy the
 * slots are while there is work, how long a slot that is free waits for the next job; and that each job runs once, in equal
 * shares, with no card above its slots.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Admin } from "../local/admin.ts";
import { bundle } from "../local/build.ts";
import { loadSecrets } from "../local/secrets.ts";
import { type Park, startPark } from "../sim/park.ts";
import { describe, machine } from "./machine.ts";
import { makeFolder, startOwn } from "./program.ts";

const TENANTS = 3;
const SLOTS = 12;
const BATCH_JOBS_MAX = 500;
/** Beside the time that the cards alone would take, so many times as much. */
const PATIENCE = 6;
const POLL_MS = 1_000;
const ROOM = { requests_per_minute: 1_000_000, burst: 1_000_000, jobs_waiting: 1_000_000, concurrent: SLOTS };

const { values: options } = parseArgs({
  options: { jobs: { type: "string", default: "1000" }, run_ms: { type: "string", default: "2000" } },
});
const jobs = Math.ceil(Number(options.jobs) / TENANTS);
const runMs = Number(options.run_ms);
if (!(jobs > 0 && jobs <= 10_000 && runMs > 0 && runMs <= 60_000))
  throw new RangeError("--jobs must be 1 to 30000, --run_ms 1 to 60000");

async function main(): Promise<void> {
  const { path: stateDir, remove } = await makeFolder();
  const { path } = await bundle();
  const program = await startOwn("local/serve.ts", [stateDir, "0", path]);
  const url = `http://127.0.0.1:${Number(program.ready["port"])}`;
  const park = await startPark({ service: { service_ms: runMs } });
  try {
    const keys = await furnish(new Admin(url, (await loadSecrets(stateDir)).ADMIN_TOKEN), park);
    const from = Date.now();
    const batches = (await Promise.all(keys.map((key, tenant) => handIn(url, key, tenant)))).flat();
    const takenMs = Date.now() - from;
    await over(url, batches, (PATIENCE * runMs * jobs * TENANTS) / SLOTS + 60_000);
    for (const [what, value] of Object.entries(figures(park, takenMs))) console.log(`${what.padEnd(44)} ${value}`);
    console.log(describe(machine()));
  } finally {
    await park.close();
    await program.stop();
    await remove();
  }
}

/** One service on all cards, and the tenants' keys. */
async function furnish(admin: Admin, park: Park): Promise<string[]> {
  await admin.call("PUT", "/services/portrait", { kind: "image", route: "/sdapi/v1/" });
  for (const { card, origin, server, gpu } of park.cards)
    await admin.call("PUT", `/services/portrait/cards/${card}`, { origin, server, gpu });
  const keys: string[] = [];
  for (let tenant = 0; tenant < TENANTS; tenant++) {
    const { id } = await admin.call<{ id: string }>("POST", "/tenants", { name: `tenant-${tenant}`, limits: ROOM });
    keys.push((await admin.call<{ key: string }>("POST", `/tenants/${id}/keys`, {})).key);
  }
  return keys;
}

interface Batch {
  id: string;
  key: string;
}

async function ask<T>(url: string, key: string, body?: unknown): Promise<T> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(url, init);
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** All jobs of one tenant; its seeds tell them from other tenants'. */
async function handIn(url: string, key: string, tenant: number): Promise<Batch[]> {
  const batches: Batch[] = [];
  for (let first = 0; first < jobs; first += BATCH_JOBS_MAX) {
    const some = Array.from({ length: Math.min(BATCH_JOBS_MAX, jobs - first) }, (_, i) => ({
      service: "portrait",
      input: { prompt: "x", width: 32, height: 32, steps: 1, seed: tenant * 1_000_000 + first + i },
    }));
    const { id } = await ask<{ id: string }>(`${url}/v1/batches`, key, { jobs: some });
    batches.push({ id, key });
  }
  return batches;
}

async function over(url: string, batches: Batch[], msMax: number): Promise<void> {
  const until = Date.now() + msMax;
  for (const { id, key } of batches) {
    for (;;) {
      const { status, counts } = await ask<{ status: string; counts: Record<string, number> }>(
        `${url}/v1/batches/${id}`,
        key,
      );
      if (status === "completed" && (counts["failed"] ?? 0) > 0) throw new Error(`${counts["failed"]} jobs failed`);
      if (status === "completed") break;
      if (Date.now() > until) throw new Error(`not over after ${msMax} ms`);
      await delay(POLL_MS);
    }
  }
}

/** As the cards have seen it. */
function figures(park: Park, takenMs: number): Record<string, string> {
  const runs = park.runs();
  const [from, until] = [runs[SLOTS - 1]?.started_at ?? 0, runs.at(-1)?.started_at ?? 0];
  const busy = runs.reduce(
    (sum, run) => sum + Math.max(0, Math.min(run.ended_at ?? until, until) - Math.max(run.started_at, from)),
    0,
  );
  const gaps = gapsOf(runs);
  const half = runs.slice(0, Math.floor(runs.length / 2));
  const shares = Array.from(
    { length: TENANTS },
    (_, tenant) => half.filter(({ seed }) => Math.floor((seed ?? 0) / 1_000_000) === tenant).length,
  );
  return {
    jobs: `${jobs * TENANTS}`,
    "runs, and runs of different jobs": `${runs.length}, ${new Set(runs.map(({ seed }) => seed)).size}`,
    "runs beyond a card's slots": `${park.counts().over}`,
    "taken per second": ((1000 * jobs * TENANTS) / takenMs).toFixed(0),
    "slots used while there was work": (busy / (SLOTS * Math.max(1, until - from))).toFixed(3),
    "from a free slot to its next run, ms, p50 p99": `${quantile(gaps, 0.5)} ${quantile(gaps, 0.99)}`,
    "runs of each tenant in the first half": shares.join(" "),
  };
}

/** Each start of a card is paired with the earliest end on it that no other start has taken. */
function gapsOf(runs: ReturnType<Park["runs"]>): number[] {
  const gaps: number[] = [];
  for (const own of Map.groupBy(runs, ({ card }) => card).values()) {
    const ends = own.flatMap(({ ended_at: at }) => at ?? []).toSorted((a, b) => a - b);
    for (const { started_at: at } of own) if ((ends[0] ?? Infinity) <= at) gaps.push(at - (ends.shift() ?? at));
  }
  return gaps.toSorted((a, b) => a - b);
}

function quantile(sorted: number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0).toFixed(0);
}

await main();
