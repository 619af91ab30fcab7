/**
 * Users on twelve slots, and what the front door adds to one request.
 *
 *   node bench/load.ts [--quick]
 *
 * Prints, for 12, 50 and 200 users in closed loop: answers a second as a share of the physical limit (12 slots / mean
 * time of the cards in that run), errors, latencies, fairness, and what the cards themselves saw. Then one caller's
 * requests through the front door and straight to a card, in turns, and the difference.
 */
import { startStand, type Stand } from "./stand.ts";
import { Agent } from "node:http";
import { jain, percentile, runLoad, type Sample, sendOnce } from "./users.ts";

const SLOTS = 12;
const SERVICE_MS = 300;
const quick = process.argv.includes("--quick");
const WARM_UP_MS = quick ? 1_000 : 3_000;
const WINDOW_MS = quick ? 5_000 : 20_000;
const ROUNDS = quick ? 60 : 300;

interface Counts {
  highest: number;
  over: number;
  starts: number;
  busy_ms: number;
  cards: { counts: { highest: number } }[];
}

const picture = (user: number, turn: number) =>
  JSON.stringify({ prompt: `user ${user} turn ${turn}`, width: 64, height: 64, steps: 1 });
const headersOf = (stand: Stand) => ({ authorization: `Bearer ${stand.key}`, "content-type": "application/json" });

async function counts(stand: Stand): Promise<Counts> {
  return (await (await fetch(`${stand.control}/cards`)).json()) as Counts;
}

async function crowd(stand: Stand, users: number): Promise<Record<string, number>> {
  await fetch(`${stand.control}/reset`, { method: "POST" });
  const samples = await runLoad({
    url: stand.url,
    path: "/sdapi/v1/txt2img",
    headers: headersOf(stand),
    body: picture,
    users,
    warmUpMs: WARM_UP_MS,
    windowMs: WINDOW_MS,
  });
  const seen = await counts(stand);
  const good = samples.filter((sample) => sample.status === 200);
  const meanS = seen.busy_ms / seen.starts / 1000;
  const ms = good.map((sample) => sample.ms);
  const perUser = Array.from({ length: users }, (_, user) => good.filter((sample) => sample.user === user).length);
  return {
    users,
    "ok/s": round(good.length / (WINDOW_MS / 1000), 1),
    share: round(good.length / (WINDOW_MS / 1000) / (SLOTS / meanS), 3),
    errors: samples.length - good.length,
    p50: round(percentile(ms, 0.5)),
    p95: round(percentile(ms, 0.95)),
    p99: round(percentile(ms, 0.99)),
    "p99/p50": round(percentile(ms, 0.99) / percentile(ms, 0.5), 2),
    jain: round(jain(perUser), 3),
    over: seen.over,
    "max/card": Math.max(...seen.cards.map((card) => card.counts.highest)),
    "max/park": seen.highest,
  };
}

/** One caller: the same request straight to a card and through the front door, in turns. */
async function added(stand: Stand): Promise<Record<string, number | string>[]> {
  await fetch(`${stand.control}/service`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"service_ms":20,"jitter":0}',
  });
  const agent = new Agent({ keepAlive: true });
  const path = "/sdapi/v1/txt2img";
  const headers = headersOf(stand);
  const direct: number[] = [];
  const through: Sample[] = [];
  for (let turn = 0; turn < ROUNDS; turn++) {
    const url = stand.cards[turn % stand.cards.length]?.origin ?? "";
    direct.push((await sendOnce({ url, path, headers }, agent, picture(-1, turn))).ms);
    through.push(await sendOnce({ url: stand.url, path, headers }, agent, picture(-2, turn)));
  }
  agent.destroy();
  const warm = Math.floor(ROUNDS / 10);
  const some = through.slice(warm).map((s) => s.ms);
  const base = direct.slice(warm);
  const row = (name: string, of: (values: number[]) => number) => ({
    "one caller, ms": name,
    direct: round(of(base), 2),
    through: round(of(some), 2),
    added: round(of(some) - of(base), 2),
  });
  return [row("median", (v) => percentile(v, 0.5)), row("p99", (v) => percentile(v, 0.99)), ...stages(through)];
}

/** Where the time goes, by the answers' own Server-Timing. */
function stages(samples: Sample[]): Record<string, number | string>[] {
  const times = new Map<string, number[]>();
  for (const { serverTiming } of samples) {
    for (const [, name = "", ms = "0"] of serverTiming.matchAll(/(\w+);dur=([\d.]+)/g)) {
      times.set(name, [...(times.get(name) ?? []), Number(ms)]);
    }
  }
  return [...times].map(([name, values]) => ({
    "one caller, ms": `  ${name}`,
    through: round(values.reduce((a, b) => a + b, 0) / values.length, 2),
  }));
}

function round(value: number, digits = 0): number {
  return Number(value.toFixed(digits));
}

const stand = await startStand({ serviceMs: SERVICE_MS, jitter: 0.3 });
try {
  const rows: Record<string, number>[] = [];
  for (const users of process.argv.includes("--one") ? [] : [12, 50, 200]) rows.push(await crowd(stand, users));
  console.table(rows);
  console.table(await added(stand));
} finally {
  await stand.stop();
}
