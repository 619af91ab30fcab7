/**
 * `npm run bench:jobs`: many jobs of three tenants on twelve slots of simulated cards. Measures how fast jobs are
 * accepted, how busy the slots are while there is work, and how long a free slot waits for the next job. Reports
 * whether each job runs once, whether tenants get equal shares, and whether any card exceeds its slots. Then counts
 * what jobs use at the bindings, by the same Worker in a separate run.
 */
import { setTimeout as delay } from "node:timers/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Admin } from "../local/admin.ts";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { type Park, startPark } from "../sim/park.ts";
import { type CostRow, ROWS_OF_A_RESULT, used, usesOfEach } from "./costs.ts";
import { openRuntime, type OpenRuntime } from "./doors.ts";
import { percentile } from "./figures.ts";
import { type JobsFigures, type Results, table } from "./jobs-report.ts";
import { machine } from "./machine.ts";
import { tell } from "./report.ts";
import { keep } from "./results.ts";

const TENANTS = 3;
const SLOTS = 12;
const JOBS_FULL = 1_000;
const BATCH_JOBS_MAX = 500;
/** Jobs of a kind whose uses are counted. */
const COUNTED = 48;
/** Rows and records are written in batches some time after their jobs. */
const WRITTEN_MS = 3_000;
/** Timeout, as a multiple of the time that the cards alone would take. */
const PATIENCE = 6;
const POLL_MS = 1_000;
const ROOM = { requests_per_minute: 1_000_000, burst: 1_000_000, jobs_waiting: 1_000_000, concurrent: SLOTS };

const { values: options } = parseArgs({
  options: {
    jobs: { type: "string", default: String(JOBS_FULL) },
    run_ms: { type: "string", default: "2000" },
    name: { type: "string" },
  },
});
const jobs = Math.ceil(Number(options.jobs) / TENANTS);
const runMs = Number(options.run_ms);
if (!(jobs > 0 && jobs <= 10_000 && runMs > 0 && runMs <= 60_000))
  throw new RangeError("--jobs must be 1 to 30000, --run_ms 1 to 60000");

const name = options.name ?? (Number(options.jobs) >= JOBS_FULL ? "jobs" : "quick-jobs");
const results: Results = {
  name,
  at: new Date().toISOString(),
  machine: machine(),
  runMs,
  figures: await withPark("deployed", runAll),
  costs: await withPark("counted", countAll),
};
console.log(`\n${table(results)}\n`);
for (const file of await keep(name, results, {})) console.log(file);
console.log(await tell());

/** Portico with its cards. */
interface Place {
  url: string;
  park: Park;
  /** One key per tenant. */
  keys: string[];
}

async function withPark<T>(worker: "deployed" | "counted", work: (place: Place) => Promise<T>): Promise<T> {
  const runtime = await openRuntime((folder) =>
    worker === "deployed" ? bundle() : bundle(join(ROOT, `bench/workers/${worker}.ts`), join(folder, worker)),
  );
  const park = await startPark({ service: { service_ms: runMs } });
  try {
    return await work({ url: runtime.url, park, keys: await furnish(runtime, park) });
  } finally {
    await park.close();
    await runtime.close();
  }
}

/** Creates one service on all cards and the tenants. Returns the tenants' keys. */
async function furnish({ url, secrets }: OpenRuntime, park: Park): Promise<string[]> {
  const admin = new Admin(url, secrets.ADMIN_TOKEN);
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

async function runAll({ url, park, keys }: Place): Promise<JobsFigures> {
  const from = Date.now();
  const batches = (await Promise.all(keys.map((key, tenant) => handIn(url, key, tenant * 1_000_000, jobs)))).flat();
  const takenMs = Date.now() - from;
  await over(url, batches, jobs * TENANTS);
  return figuresOf(park, takenMs);
}

/** What one job uses from its submission to its end, when nobody polls it. */
async function countAll({ url, park, keys: [key = ""] }: Place): Promise<CostRow[]> {
  const ended = (): number => park.runs().filter((run) => run.ended_at !== null).length;
  const count = async (title: string, requests: number, submit: () => Promise<unknown>): Promise<CostRow> => {
    await delay(WRITTEN_MS);
    const [before, goal, until] = [await used(url), ended() + COUNTED, Date.now() + msMax(COUNTED)];
    await submit();
    while (ended() < goal && Date.now() < until) await delay(POLL_MS);
    await delay(WRITTEN_MS);
    return {
      title,
      uses: { ...usesOfEach(before, await used(url), COUNTED), request: requests },
      rows: ROWS_OF_A_RESULT,
    };
  };
  const alone = async (): Promise<void> => {
    for (let seed = 0; seed < COUNTED; seed++)
      await ask(url, key, "/v1/jobs", { service: "portrait", input: pictureOf(2_000_000 + seed) });
  };
  // One job first, so that what is created on first use is not counted.
  await over(url, await handIn(url, key, 0, 1), 1);
  return [
    await count("handed in by itself", 1, alone),
    await count("one of a batch", 1 / COUNTED, () => handIn(url, key, 1_000_000, COUNTED)),
  ];
}

interface Batch {
  id: string;
  key: string;
}

async function ask<T>(url: string, key: string, path: string, body?: unknown): Promise<T> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const init = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(url + path, init);
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

function pictureOf(seed: number): object {
  return { prompt: "x", width: 32, height: 32, steps: 1, seed };
}

/** Submits jobs of one tenant; their seeds identify them. */
async function handIn(url: string, key: string, firstSeed: number, count: number): Promise<Batch[]> {
  const batches: Batch[] = [];
  for (let first = 0; first < count; first += BATCH_JOBS_MAX) {
    const some = Array.from({ length: Math.min(BATCH_JOBS_MAX, count - first) }, (_, i) => ({
      service: "portrait",
      input: pictureOf(firstSeed + first + i),
    }));
    const { id } = await ask<{ id: string }>(url, key, "/v1/batches", { jobs: some });
    batches.push({ id, key });
  }
  return batches;
}

/** The longest time that `count` jobs may take, ms. */
function msMax(count: number): number {
  return (PATIENCE * runMs * count) / SLOTS + 60_000;
}

async function over(url: string, batches: Batch[], count: number): Promise<void> {
  const until = Date.now() + msMax(count);
  for (const { id, key } of batches) {
    for (;;) {
      const { status, counts } = await ask<{ status: string; counts: Record<string, number> }>(
        url,
        key,
        `/v1/batches/${id}`,
      );
      if (status === "completed" && (counts["failed"] ?? 0) > 0) throw new Error(`${counts["failed"]} jobs failed`);
      if (status === "completed") break;
      if (Date.now() > until) throw new Error(`not over after ${msMax(count)} ms`);
      await delay(POLL_MS);
    }
  }
}

/** Computed from the cards' records. */
function figuresOf(park: Park, takenMs: number): JobsFigures {
  const runs = park.runs();
  const [from, until] = [runs[SLOTS - 1]?.started_at ?? 0, runs.at(-1)?.started_at ?? 0];
  const busy = runs.reduce(
    (sum, run) => sum + Math.max(0, Math.min(run.ended_at ?? until, until) - Math.max(run.started_at, from)),
    0,
  );
  const gaps = gapsOf(runs);
  const half = runs.slice(0, Math.floor(runs.length / 2));
  return {
    jobs: jobs * TENANTS,
    runs: runs.length,
    ran: new Set(runs.map(({ seed }) => seed)).size,
    over: park.counts().over,
    takenPerSecond: (1000 * jobs * TENANTS) / takenMs,
    slotsBusy: busy / (SLOTS * Math.max(1, until - from)),
    gapP50: percentile(gaps, 0.5) ?? 0,
    gapP99: percentile(gaps, 0.99) ?? 0,
    shares: Array.from(
      { length: TENANTS },
      (_, tenant) => half.filter(({ seed }) => Math.floor((seed ?? 0) / 1_000_000) === tenant).length,
    ),
  };
}

/** Pairs each start on a card with the earliest unpaired end before it on the same card. */
function gapsOf(runs: ReturnType<Park["runs"]>): number[] {
  const gaps: number[] = [];
  for (const own of Map.groupBy(runs, ({ card }) => card).values()) {
    const ends = own.flatMap(({ ended_at: at }) => at ?? []).toSorted((a, b) => a - b);
    for (const { started_at: at } of own) if ((ends[0] ?? Infinity) <= at) gaps.push(at - (ends.shift() ?? at));
  }
  return gaps.toSorted((a, b) => a - b);
}
