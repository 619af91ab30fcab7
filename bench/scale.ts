/**
 * `npm run bench:scale`: whether the line stays cheap as it grows. One dimension grows at a time (waiting tickets,
 * tenants, cards), for the Pool's decisions alone and for real objects in the runtime. Time per grant may grow
 * logarithmically.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { machine } from "./machine.ts";
import { Progress } from "./progress.ts";
import { makeFolder, startOwn } from "./program.ts";
import { tell } from "./report.ts";
import { keep } from "./results.ts";
import { type DeskTimes, type Size, timeDesk } from "./scale-desk.ts";
import {
  DESK_BASE,
  DESK_GROWING,
  type Dimension,
  growthOf,
  OBJECTS_BASE,
  OBJECTS_GROWING,
  type ObjectTimes,
  plot,
  type Results,
  sizes,
  sizeText,
  tables,
} from "./scale-report.ts";

const SECONDS_FULL = 75;
const SECONDS_QUICK = 40;
const ROUNDS = 3;
/** Cards with a database each, which take over a minute to create. */
const LARGE = 5_000;
const SECONDS_LARGE = 100;

const flag = { type: "boolean" } as const;
const { values: options } = parseArgs({ options: { quick: flag, large: flag, name: { type: "string" } } });
const isQuick = options.quick === true;
const isLarge = options.large === true;
const growing = isLarge ? { ...OBJECTS_GROWING, cards: [...OBJECTS_GROWING.cards, LARGE] } : OBJECTS_GROWING;

const progress = new Progress((isQuick ? SECONDS_QUICK : SECONDS_FULL) + (isLarge ? SECONDS_LARGE : 0));
const desk = timeDesks(sizes(DESK_BASE, DESK_GROWING));
const objects = await timeObjects(sizes(OBJECTS_BASE, growing));
const growth = [
  ...growthOf("decisions", desk, DESK_BASE, DESK_GROWING),
  ...growthOf("objects", objects, OBJECTS_BASE, growing),
];
const name = options.name ?? (isQuick ? "quick-scale" : "scale");
const results: Results = { name, at: new Date().toISOString(), machine: machine(), desk, objects, growth };
console.log(`\n${tables(results)}\n`);
for (const file of await keep(name, results, { plot: plot(results) })) console.log(file);
console.log(await tell());
if (growth.some(({ holds }) => !holds)) process.exitCode = 1;

/** Measures all sizes in each round, so that a temporary slowdown does not hit the same size in every round. */
function timeDesks(all: Size[]): DeskTimes[] {
  const best = new Map<Size, DeskTimes>();
  for (let round = 1; round <= ROUNDS; round++) {
    for (const size of all) {
      progress.begin(`decisions, ${sizeText(size)}, round ${round}`);
      const times = timeDesk(size, isQuick ? 20 : 100);
      const before = best.get(size);
      if (before === undefined || times.cycleUs < before.cycleUs) best.set(size, times);
      progress.end(`${times.cycleUs.toFixed(1)} us a cycle`);
    }
  }
  return [...best.values()];
}

async function timeObjects(all: Size[]): Promise<ObjectTimes[]> {
  const { path: stateDir, remove } = await makeFolder();
  const { path } = await bundle(join(ROOT, "bench/workers/scale.ts"), join(stateDir, "scale"));
  const { ready, stop } = await startOwn("local/serve.ts", [stateDir, "0", path]);
  try {
    const times: ObjectTimes[] = [];
    for (const [i, size] of all.entries()) {
      progress.begin(`objects, ${sizeText(size)}`);
      const asked = {
        service: `scale-${i}`,
        ...size,
        warmUpMs: isQuick ? 500 : 1_500,
        windowMs: isQuick ? 1_000 : 4_000,
      };
      const one = await timeCrowd(String(ready["url"]), asked);
      times.push({ ...size, ...one });
      progress.end(one.failed ?? `${one.grantsPerSecond?.toFixed(0)} grants/s`);
    }
    return times;
  } finally {
    await stop();
    await remove();
  }
}

async function timeCrowd(url: string, asked: object): Promise<Omit<ObjectTimes, Dimension>> {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(asked) });
  const text = await answer.text();
  if (!answer.ok) return { grantsPerSecond: null, cycleUs: null, failed: text };
  const { grants, ms }: { grants: number; ms: number } = JSON.parse(text);
  return { grantsPerSecond: (grants * 1000) / ms, cycleUs: (ms * 1000) / grants, failed: null };
}
