/**
 * `npm run bench`: Portico compared with HAProxy and nginx, on the same simulated cards, under the same load, in one
 * session. Prints tables, and writes NAME.json and NAME-*.svg to bench/results. bench/README.md explains the figures.
 */
import { CardPark } from "./cards.ts";
import { measure, type Row, spanOf, takesPart } from "./cases.ts";
import type { Contender, Door } from "./contenders.ts";
import { machine } from "./machine.ts";
import { measureOldLoad, OLD_LOAD_SPAN, type OldLoadRow } from "./old-load.ts";
import { measureOneCaller, type OneCaller } from "./one-caller.ts";
import { type Options, readOptions, USAGE, UsageError } from "./options.ts";
import { plotsOf } from "./plots.ts";
import { Progress } from "./progress.ts";
import { tell } from "./report.ts";
import { keep, load, type Results } from "./results.ts";
import { tableOf } from "./table.ts";

try {
  const options = readOptions(process.argv.slice(2));
  if (options === null) console.log(USAGE);
  else if ("draw" in options) await redraw(options.draw);
  else await run(options);
} catch (error) {
  console.error(error instanceof UsageError ? `${error.message}\n\n${USAGE}` : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

async function run(options: Options): Promise<void> {
  const { name, cases, lengths, rounds } = options;
  const present = options.contenders.filter((contender) => contender.missing() === null);
  const leftOut = options.contenders.flatMap((contender) => {
    const why = contender.missing();
    return why === null ? [] : [{ title: contender.title, why }];
  });
  for (const { title, why } of leftOut) console.log(`${title}: ${why}`);
  const progress = new Progress(secondsOf(options, present));
  const park = await CardPark.open();
  try {
    const oldLoad = options.oldLoad ? await loadAsOfOld(present, progress) : [];
    const oneCaller = rounds === 0 ? [] : await callAlone(park, present, rounds, progress);
    const rows: Row[] = [];
    for (const contender of present) rows.push(...(await measureAll(park, contender, options, progress)));
    const contenders = present.map((one) => ({ name: one.name, title: one.title }));
    const at = new Date().toISOString();
    const results: Results = {
      name,
      at,
      machine: machine(),
      lengths,
      rounds,
      contenders,
      leftOut,
      cases,
      rows,
      oneCaller,
      oldLoad,
    };
    console.log(`\n${tableOf(results)}\n`);
    for (const file of await keep(name, results, plotsOf(results))) console.log(file);
    console.log(await tell());
  } finally {
    await park.close();
  }
}

/**
 * Runs one contender through its cases. Peers start afresh for each: their queues would still serve earlier callers.
 */
async function measureAll(park: CardPark, contender: Contender, options: Options, progress: Progress): Promise<Row[]> {
  const rows: Row[] = [];
  let door: Door | null = null;
  for (const one of options.cases.filter((each) => takesPart(contender.part, each))) {
    if (door !== null && contender.isRenewed) {
      await door.close();
      door = null;
    }
    door ??= await contender.open(park.places);
    progress.begin(`${contender.title}, ${one.title}`);
    const row = await measure(park, contender, door, one, options.lengths);
    rows.push(row);
    progress.end(`${row.share.toFixed(3)} of the limit, ${row.errors} errors, ${row.over} over`);
  }
  await door?.close();
  return rows;
}

async function loadAsOfOld(present: readonly Contender[], progress: Progress): Promise<OldLoadRow[]> {
  progress.begin("the older stack's load");
  const rows = await measureOldLoad(present);
  progress.end(`${rows.length} parts at the same time`);
  return rows;
}

async function callAlone(
  park: CardPark,
  present: readonly Contender[],
  rounds: number,
  progress: Progress,
): Promise<OneCaller[]> {
  const doors: { contender: Contender; door: Door }[] = [];
  try {
    for (const contender of present.filter(({ alone }) => alone))
      doors.push({ contender, door: await contender.open(park.places) });
    progress.begin(`one caller, ${rounds} requests through each`);
    const figures = await measureOneCaller(park, doors, rounds);
    progress.end(`${doors.length} compared`);
    return figures;
  } finally {
    await Promise.all(doors.map(({ door }) => door.close()));
  }
}

/** A rough estimate for the progress display. */
function secondsOf({ cases, lengths, rounds, oldLoad }: Options, contenders: readonly Contender[]): number {
  const CASE_MS = 800;
  const DOOR_MS = 3_000;
  const CALL_MS = 35;
  const OLD_LOAD_DOORS_MS = 12_000;
  const all = contenders.flatMap((who) =>
    cases.filter((one) => takesPart(who.part, one)).map((one) => spanOf(one, lengths, who)),
  );
  const spans = oldLoad ? [...all, OLD_LOAD_SPAN] : all;
  const windows = spans.reduce((sum, span) => sum + span.warmUpMs + span.windowMs, 0);
  const doors = contenders.length * (DOOR_MS + rounds * CALL_MS) + (oldLoad ? OLD_LOAD_DOORS_MS : 0);
  return (windows + all.length * CASE_MS + doors) / 1000;
}

async function redraw(name: string): Promise<void> {
  const results = await load<Results>(name);
  for (const file of await keep(name, results, plotsOf(results))) console.log(file);
  console.log(await tell());
}
