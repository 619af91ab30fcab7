/**
 * `npm run bench:hits`: what a hit costs, compared with a bare Worker that answers from the platform's cache and with
 * nginx. All serve the same bytes in turns of a second, so that other load on the machine affects all alike. Then what
 * a million hits and misses use and cost, counted at the bindings by the same Worker in a separate run.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import {
  doorsOf,
  type HitDoor,
  nginxMissing,
  openEdge,
  openNginx,
  openPortico,
  openSoundOrigin,
  type PorticoHits,
  speak,
} from "./hits-doors.ts";
import { type CostRow, ROWS_OF_A_RESULT, used, usesOfEach, usesText } from "./costs.ts";
import { type Heard, hitRow, type HitRow, type Results, table } from "./hits-report.ts";
import { machine } from "./machine.ts";
import { Progress } from "./progress.ts";
import { tell } from "./report.ts";
import { keep } from "./results.ts";
import { now } from "./users.ts";
import { Wire } from "./wire.ts";

const SIZES = [4 * 1024, 256 * 1024];
const CONNECTIONS = 16;
const WINDOW_MS = 1_000;
const WARM_UP_MS = 500;
const ROUNDS_FULL = 10;
const ROUNDS_QUICK = 1;
/** Requests of a kind whose uses are counted: few enough to finish before the isolate's cached key expires. */
const COUNTED = 100;
/** Rows and records are written in batches some time after their answers. */
const WRITTEN_MS = 1_000;
const REST_S = 15;

const { values: options } = parseArgs({ options: { quick: { type: "boolean" }, name: { type: "string" } } });
const isQuick = options.quick === true;
const rounds = isQuick ? ROUNDS_QUICK : ROUNDS_FULL;
const progress = new Progress(REST_S + (SIZES.length * 4 * rounds * (WINDOW_MS + WARM_UP_MS)) / 1_000);

const why = nginxMissing();
const leftOut = why === null ? [] : [{ title: "nginx, proxy_cache", why }];
const rows: HitRow[] = [];
for (const bytes of SIZES) rows.push(...(await timeAll(bytes)));
const costs = await countAll();
const name = options.name ?? (isQuick ? "quick-hits" : "hits");
const results: Results = {
  name,
  at: new Date().toISOString(),
  machine: machine(),
  connections: CONNECTIONS,
  windowMs: rounds * WINDOW_MS,
  rows,
  costs,
  leftOut,
};
console.log(`\n${table(results)}\n`);
for (const file of await keep(name, results, {})) console.log(file);
console.log(await tell());

async function timeAll(bytes: number): Promise<HitRow[]> {
  const origin = await openSoundOrigin(bytes);
  const edge = await openEdge(origin);
  const portico = await openPortico(origin, null);
  const nginx = why === null ? await openNginx(origin) : null;
  try {
    const doors = [edge.door, ...doorsOf(portico), ...(nginx === null ? [] : [nginx.door])];
    const heard = doors.map((door): Heard => ({ title: door.title, bytes, ms: [], seconds: 0 }));
    for (let round = 1; round <= rounds; round++) {
      for (const [i, door] of doors.entries()) {
        progress.begin(`${door.title}, ${bytes} bytes, round ${round}`);
        const ms = await listen(door);
        heard[i]?.ms.push(...ms);
        if (heard[i] !== undefined) heard[i].seconds += WINDOW_MS / 1_000;
        progress.end(`${((ms.length * 1_000) / WINDOW_MS).toFixed(0)} hits/s`);
      }
    }
    const [bare] = heard;
    return bare === undefined ? [] : heard.map((one) => hitRow(one, bare));
  } finally {
    await Promise.all([edge.close(), portico.runtime.close(), nginx?.close()]);
    origin.close();
  }
}

/** The times of the answers in one window, ms. Throws unless every answer is a 200. */
async function listen(door: HitDoor): Promise<number[]> {
  const from = now() + WARM_UP_MS;
  const until = from + WINDOW_MS;
  const all: number[] = [];
  const one = async (id: number): Promise<void> => {
    const wire = new Wire(door.port, "127.0.0.1");
    for (let turn = id; now() < until; turn += CONNECTIONS) {
      const startedAt = now();
      const { status } = await wire.send(door.request(turn));
      if (status !== 200) throw new Error(`${door.title} answered with ${status}`);
      const endedAt = now();
      if (startedAt >= from && endedAt <= until) all.push(endedAt - startedAt);
    }
    wire.hangUp();
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, (_, id) => one(id)));
  return all;
}

async function countAll(): Promise<CostRow[]> {
  const origin = await openSoundOrigin(SIZES[0] ?? 0);
  const portico = await openPortico(origin, "counted");
  const [key = ""] = portico.keys;
  try {
    const [hit, result] = doorsOf(portico);
    const count = (title: string, request: (turn: number) => Buffer, rowsOf = 0) =>
      countOne(portico, title, request, rowsOf);
    return [
      await count("a hit at the edge", () => hit?.request(0) ?? Buffer.alloc(0)),
      await count("a signed result URL at the edge", () => result?.request(0) ?? Buffer.alloc(0)),
      await count("a miss", (turn) => speak(key, `a miss, turn ${turn}`), ROWS_OF_A_RESULT),
      await count("the first hit of each", (turn) => speak(key, `a miss, turn ${turn}`)),
    ];
  } finally {
    await portico.runtime.close();
    origin.close();
  }
}

async function countOne(
  portico: PorticoHits,
  title: string,
  request: (turn: number) => Buffer,
  rowsOf: number,
): Promise<CostRow> {
  progress.begin(`uses of ${title}`);
  const wire = new Wire(portico.runtime.port, "127.0.0.1");
  // Warms the isolate's caches of keys and services.
  await wire.send(request(COUNTED));
  await delay(WRITTEN_MS);
  const before = await used(portico.runtime.url);
  for (let turn = 0; turn < COUNTED; turn++) {
    const { status } = await wire.send(request(turn));
    if (status !== 200) throw new Error(`${title}: ${status}`);
  }
  await delay(WRITTEN_MS);
  wire.hangUp();
  const uses = usesOfEach(before, await used(portico.runtime.url), COUNTED);
  progress.end(usesText(uses));
  return { title, uses, rows: rowsOf };
}
