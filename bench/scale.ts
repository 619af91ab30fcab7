/**
 * `npm run bench:scale`: whether the line stays cheap as it grows. One dimension grows at a time (who waits, tenants,
 * cards), for the Pool's decisions alone and for real objects in the runtime; time per grant may grow like a logarithm.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { machine } from "./machine.ts";
import { Progress } from "./progress.ts";
import { makeFolder, startOwn } from "./program.ts";
import { keep } from "./results.ts";
import { type Size, timeDesk } from "./scale-desk.ts";
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

const { values: options } = parseArgs({ options: { quick: { type: "boolean" }, name: { type: "string" } } });
const isQuick = options.quick === true;

const progress = new Progress(isQuick ? SECONDS_QUICK : SECONDS_FULL);
const desk = sizes(DESK_BASE, DESK_GROWING).map((size) => {
  progress.begin(`decisions, ${sizeText(size)}`);
  const times = timeDesk(size, isQuick ? 40 : 200);
  progress.end(`${times.cycleUs.toFixed(1)} us a cycle`);
  return times;
});
const objects = await timeObjects(sizes(OBJECTS_BASE, OBJECTS_GROWING));
const growth = [
  ...growthOf("decisions", desk, DESK_BASE, DESK_GROWING),
  ...growthOf("objects", objects, OBJECTS_BASE, OBJECTS_GROWING),
];
const name = options.name ?? (isQuick ? "scale-quick" : "scale");
const results: Results = { name, at: new Date().toISOString(), machine: machine(), desk, objects, growth };
console.log(`\n${tables(results)}\n`);
for (const file of await keep(name, results, { plot: plot(results) })) console.log(file);
if (growth.some(({ holds }) => !holds)) process.exitCode = 1;

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
