/**
 * `npm run bench:auth`: what keys and limits cost on a hit and on a miss. Times are those of one caller, alternating
 * with a bare Worker. Uses of D1, R2 and the objects are counted at the bindings, by the same Worker in a separate run.
 * Exits with 1 if a request that brings nothing new reads D1.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Admin } from "../local/admin.ts";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { type AuthCase, casesOf } from "./auth-cases.ts";
import { type AuthRow, brokenOf, type Results, table } from "./auth-report.ts";
import { CardPark } from "./cards.ts";
import { type Uses, used, usesOfEach, usesText } from "./costs.ts";
import { furnish, type OpenRuntime, openRuntime } from "./doors.ts";
import { mean, percentile } from "./figures.ts";
import { machine } from "./machine.ts";
import { Progress } from "./progress.ts";
import { tell } from "./report.ts";
import { keep } from "./results.ts";
import { now } from "./users.ts";
import { Wire } from "./wire.ts";

const ROUNDS_FULL = 400;
const ROUNDS_QUICK = 30;
/** Share of the rounds that is not counted. */
const WARM_SHARE = 0.1;
const SERVICE_MS = 5;
/** Lets the work after an answer (records, stores) finish before the next request. */
const PAUSE_MS = 5;
/** An isolate caches keys and services for 5 s. */
const FORGOTTEN_MS = 5_200;
/** Requests of a case whose uses are counted: few enough that cached reads do not expire before the last of them. */
const COUNTED = 25;
/** Rows and records are written in batches some time after their answers. */
const WRITTEN_MS = 1_000;
/** Approximate length of one round, and of everything else. */
const ROUND_MS = 130;
const REST_S = 65;

const { values: options } = parseArgs({ options: { quick: { type: "boolean" }, name: { type: "string" } } });
const isQuick = options.quick === true;
const rounds = isQuick ? ROUNDS_QUICK : ROUNDS_FULL;

const progress = new Progress(REST_S + (rounds * ROUND_MS) / 1_000);
const park = await CardPark.open();
try {
  await park.setTiming({ service_ms: SERVICE_MS, jitter: 0 });
  const uses = await countAll();
  const rows = await timeAll(uses);
  const name = options.name ?? (isQuick ? "quick-auth" : "auth");
  const results: Results = { name, at: new Date().toISOString(), machine: machine(), rounds, rows };
  console.log(`\n${table(results)}\n`);
  for (const file of await keep(name, results, {})) console.log(file);
  console.log(await tell());
  for (const { title } of brokenOf(rows)) console.error(`${title}: reads D1 although it brings nothing new`);
  if (brokenOf(rows).length > 0) process.exitCode = 1;
} finally {
  await park.close();
}

function openWorker(name: string): Promise<OpenRuntime> {
  return openRuntime((folder) => bundle(join(ROOT, `bench/workers/${name}.ts`), join(folder, name)));
}

async function openCases(runtime: OpenRuntime, turns: number): Promise<AuthCase[]> {
  const keys = await furnish(new Admin(runtime.url, runtime.secrets.ADMIN_TOKEN), park.places, turns + 1);
  return casesOf(keys, park.places);
}

/** The uses of one request of each case, by its title. */
async function countAll(): Promise<Map<string, Uses>> {
  const runtime = await openWorker("counted");
  const wire = new Wire(runtime.port, "127.0.0.1");
  try {
    const counted = new Map<string, Uses>();
    const cases = await openCases(runtime, COUNTED);
    for (const one of cases.filter(({ door }) => door === "portico")) {
      progress.begin(`uses of ${one.title}`);
      if (one.isWarm) {
        await delay(FORGOTTEN_MS);
        await send(wire, one, COUNTED);
      }
      await delay(WRITTEN_MS);
      const before = await used(runtime.url);
      for (let turn = 0; turn < COUNTED; turn++) await send(wire, one, turn);
      await delay(WRITTEN_MS);
      const uses = usesOfEach(before, await used(runtime.url), COUNTED);
      counted.set(one.title, uses);
      progress.end(usesText(uses));
    }
    return counted;
  } finally {
    wire.hangUp();
    await runtime.close();
  }
}

async function timeAll(uses: Map<string, Uses>): Promise<AuthRow[]> {
  const runtimes = { portico: await openRuntime(() => bundle()), bare: await openWorker("bare") };
  const wires = {
    portico: new Wire(runtimes.portico.port, "127.0.0.1"),
    bare: new Wire(runtimes.bare.port, "127.0.0.1"),
  };
  try {
    const cases = await openCases(runtimes.portico, rounds);
    const timed = cases.map((one) => ({ one, us: [] as number[], stages: new Map<string, number[]>() }));
    progress.begin(`${rounds} rounds of ${cases.length} requests`);
    for (let round = 0; round < rounds; round++) {
      for (const { one, us, stages } of timed) {
        const startedAt = now();
        const timing = await send(wires[one.door], one, round);
        const took = (now() - startedAt) * 1_000;
        await delay(PAUSE_MS);
        if (round < rounds * WARM_SHARE) continue;
        us.push(took);
        for (const [, stage = "", ms = "0"] of timing.matchAll(/(\w+);dur=([\d.]+)/g))
          stages.set(stage, [...(stages.get(stage) ?? []), Number(ms)]);
      }
    }
    progress.end(`${timed[0]?.us.length ?? 0} of them counted`);
    return timed.map(({ one, us, stages }) => rowOf(one, us, stages, uses.get(one.title) ?? null));
  } finally {
    for (const wire of Object.values(wires)) wire.hangUp();
    await Promise.all(Object.values(runtimes).map((runtime) => runtime.close()));
  }
}

function rowOf(
  { title, floor, isWarm }: AuthCase,
  us: readonly number[],
  stages: ReadonlyMap<string, number[]>,
  uses: Uses | null,
): AuthRow {
  const sorted = us.toSorted((a, b) => a - b);
  const at = (share: number) => percentile(sorted, share) ?? Number.NaN;
  const means = Object.fromEntries(Array.from(stages, ([stage, all]) => [stage, mean(all)]));
  return { title, floor, isWarm, p50Us: at(0.5), p95Us: at(0.95), stages: means, uses };
}

/** Returns the value of `Server-Timing`. */
async function send(wire: Wire, { title, request, statuses }: AuthCase, turn: number): Promise<string> {
  const { status, serverTiming } = await wire.send(request(turn));
  if (!statuses.includes(status)) throw new Error(`${title}: ${status}`);
  return serverTiming;
}
