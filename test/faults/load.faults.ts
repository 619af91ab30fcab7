/** Crowds on six cards with two slots each: closed loop, open loop, beyond the limit, hanging up, unequal tenants. */
import { eventually, sleep } from "../line/caller.ts";
import { type Line, openLine, type Service } from "../line/line.ts";
import { fault, type Seen as Row } from "./case.ts";
import {
  busyShare,
  closed,
  errors,
  good,
  jain,
  limitShare,
  meanS,
  open,
  p,
  type Seen,
  statuses,
  times,
} from "./crowd.ts";

const SLOTS = 12;
const SLOTS_PER_CARD = 2;
const line = openLine();
/** The service times with which the other systems in the table were measured. */
const MEAN = { service_ms: 300, jitter: 0.3 };
/** What a busy machine of two cores still reaches: share of the limit, and p99/p50. */
const LIMIT_FLOOR = 0.15;
const EVEN_CEILING = 3;

async function ready(config = {}): Promise<{ line: Line; service: Service; key: string }> {
  line.park.setService(MEAN);
  return {
    line,
    service: await line.service({ queue: { max: 1_000, timeout_s: 60 }, ...config }),
    key: await line.key(),
  };
}

/** What must hold under any load. */
function sound(row: Row, seen: Seen): void {
  const { cards, highest } = seen.counts;
  row.exactly("over", seen.over);
  const most = Math.max(...Object.values(cards).map((card) => card.highest));
  row.figure("most on a card", most, most <= SLOTS_PER_CARD);
  row.figure("most in the cluster", highest, highest <= SLOTS);
}

/** How close to the limit it came: by the slots' own time, and by answers. */
function near(row: Row, seen: Seen): void {
  row.measured("slots' time used", busyShare(seen), { least: 0.98, floor: LIMIT_FLOOR });
  row.note(
    `good answers ${(good(seen).length / (seen.windowMs / 1000)).toFixed(1)}/s = ${limitShare(seen).toFixed(3)} of the limit`,
  );
}

const EVEN = { 50: "1.15", 100: "1.10", 200: "1.06" };
for (const [users, even] of Object.entries(EVEN)) {
  fault(
    {
      number: `1.${users}`,
      injection: `closed loop, ${users} users, 6 s after 2 s`,
      expected: `0 over; at most 12 in the cluster; >= 0.98 of the limit; 0 errors; p99/p50 <= ${even}`,
    },
    async (row) => {
      const crowd = await ready();
      // Long enough that the first round, which arrived all at once, is over.
      const seen = await closed({ ...crowd, users: Number(users), warmUpMs: 2_000, windowMs: 6_000 });
      sound(row, seen);
      row.figure("errors", errors(seen).length === 0 ? 0 : statuses(errors(seen)), errors(seen).length === 0);
      near(row, seen);
      row.measured("p99/p50", p(0.99, times(seen)) / p(0.5, times(seen)), {
        most: Number(even),
        ceiling: EVEN_CEILING,
      });
    },
  );
}

fault(
  {
    number: "3",
    injection: "open loop, 36/s (90 % of the limit), 8 s",
    expected: "0 errors; p95 <= 390 ms (1.3 x the mean time of a run)",
  },
  async (row) => {
    const seen = await open({ ...(await ready()), perSecond: 36, windowMs: 8_000 });
    sound(row, seen);
    row.figure("errors", errors(seen).length === 0 ? 0 : statuses(errors(seen)), errors(seen).length === 0);
    row.note(`p50 ${p(0.5, times(seen)).toFixed(0)} ms, p95 ${p(0.95, times(seen)).toFixed(0)} ms`);
    row.measured("p95 / mean run", p(0.95, times(seen)) / (meanS(seen) * 1000), { most: 1.3, ceiling: 10, digits: 2 });
  },
);

fault(
  {
    number: "4",
    injection: "open loop, 60/s (150 % of the limit), 10 s, queue.timeout_s 3",
    expected:
      ">= 0.98 of the limit; the excess is 503 with Retry-After; nobody served waited longer than 3 s +-1; oldest first",
  },
  async (row) => {
    const crowd = await ready({ queue: { max: 1_000, timeout_s: 3 } });
    const seen = await open({ ...crowd, perSecond: 60, warmUpMs: 4_000, windowMs: 8_000 });
    sound(row, seen);
    near(row, seen);
    const shed = errors(seen);
    row.figure("shed", statuses(shed), shed.length > 0 && shed.every(({ status }) => status === 503));
    row.exactly("without Retry-After", shed.filter(({ retryAfter }) => retryAfter === null).length);
    const startOf = new Map(line.park.runs().map((run) => [run.prompt, run.started_at]));
    const served = good(seen).flatMap((sample) => {
      const startedAt = startOf.get(sample.prompt);
      return startedAt === undefined ? [] : [{ sentAt: sample.sentAt, startedAt }];
    });
    const waits = served.map(({ sentAt, startedAt }) => startedAt - sentAt);
    row.measured("longest wait of the served, s", Math.max(...waits) / 1000, { most: 4, ceiling: 5, digits: 2 });
    // Two requests that arrive at the same moment may start in either order.
    const byStart = served.toSorted((a, b) => a.startedAt - b.startedAt);
    let latest = 0;
    const overtakers = byStart.filter(({ sentAt }) => ((latest = Math.max(latest, sentAt)), latest - sentAt > 500));
    row.exactly("started after one who came 0.5 s later", overtakers.length);
  },
);

/** Each user's mean answer time: a short window has too few turns to count them. */
function meansOf(seen: Seen): number[] {
  const byUser = Map.groupBy(good(seen), ({ user }) => user);
  return Array.from(
    byUser.values(),
    (own) => own.reduce((sum, { sentAt, endedAt }) => sum + endedAt - sentAt, 0) / own.length,
  );
}

/** The number of callers that hung up and were still started more than 250 ms later. */
function departed({ samples }: Seen): number {
  const leftAt = new Map(samples.filter(({ left }) => left).map(({ prompt, endedAt }) => [prompt, endedAt]));
  return line.park.runs().filter((run) => run.started_at > (leftAt.get(run.prompt ?? "") ?? Infinity) + 250).length;
}

for (const [number, afterMs, when] of [
  ["5", 100, "at 100 ms, while some run"],
  ["6", 400, "at 400 ms, while queued"],
] as const) {
  fault(
    {
      number,
      injection: `30 % of 50 users hang up (TCP reset) ${when}; cards work on; 8 s`,
      expected: "0 over; nobody starts who has left; >= 0.98 of the limit less the ghosts' own time; 0 errors",
    },
    async (row) => {
      const crowd = await ready();
      const seen = await closed({ ...crowd, users: 50, windowMs: 8_000, leave: { share: 0.3, afterMs } });
      sound(row, seen);
      row.figure("errors", errors(seen).length === 0 ? 0 : statuses(errors(seen)), errors(seen).length === 0);
      row.note(`${seen.samples.filter(({ left }) => left).length} hung up`);
      row.exactly("started after they had left", departed(seen));
      near(row, seen);
      await line.conserved();
      row.exactly("over, after the last run", line.park.counts().over);
    },
  );
}

fault(
  {
    number: "13",
    injection: "12 runs end in the same moment while 100 wait, 6 times",
    expected: "12 starts within 50 ms, no slot idle",
  },
  async (row) => {
    const { service, key } = await ready();
    line.park.setService({ service_ms: 60_000, jitter: 0 });
    const callers = await line.calls(SLOTS + 100, { service, key });
    await eventually("100 wait", async () => (await line.queued(service)) === 100);
    const rounds: number[] = [];
    for (let round = 1; round <= 6; round++) {
      // As in the WebUI: an interrupted run returns at once with what it has.
      await Promise.all(line.park.cards.map(({ origin }) => fetch(`${origin}/sdapi/v1/interrupt`, { method: "POST" })));
      const starts = SLOTS * (round + 1);
      await eventually("the slots are taken again", () => line.park.counts().starts >= starts);
      await sleep(100);
      const runs = line.park.runs();
      const ended = runs.filter((run) => run.ended_at !== null).map((run) => run.ended_at ?? 0);
      const lastEnd = Math.max(...ended);
      rounds.push(Math.max(...runs.map((run) => run.started_at)) - lastEnd);
    }
    row.note(`12th start after the last end: ${rounds.map((ms) => ms.toFixed(0)).join(", ")} ms`);
    row.measured("median, ms", p(0.5, rounds), { most: 50, ceiling: 1_000, digits: 0 });
    const { running, over, highest } = line.park.counts();
    row.exactly("idle slots", SLOTS - running);
    row.exactly("over", over);
    row.figure("most in the cluster", highest, highest <= SLOTS);
    for (const caller of callers) caller.hangUp();
    await eventually("nobody waits", async () => (await line.queued(service)) === 0);
    for (const { origin } of line.park.cards) await fetch(`${origin}/sdapi/v1/interrupt`, { method: "POST" });
  },
);

fault(
  {
    number: "24",
    injection: "one tenant with 200 users, another with 5, runs of 150 ms, 8 s",
    expected:
      "the small one's p95 <= 2 x its fair share (it has fewer users than half of the slots: one run); Jain over equal users >= .95",
  },
  async (row) => {
    const { service, key } = await ready();
    line.park.setService({ service_ms: 150, jitter: 0.3 });
    const small = await line.key();
    const span = { line, service, warmUpMs: 3_000, windowMs: 8_000 };
    const [much, little] = await Promise.all([
      closed({ ...span, key, users: 200 }),
      closed({ ...span, key: small, users: 5 }),
    ]);
    sound(row, much);
    for (const seen of [much, little])
      row.figure("errors", errors(seen).length === 0 ? 0 : statuses(errors(seen)), errors(seen).length === 0);
    near(row, { ...much, samples: [...much.samples, ...little.samples] });
    row.note(`p50 ${p(0.5, times(much)).toFixed(0)} and ${p(0.5, times(little)).toFixed(0)} ms`);
    row.measured("small one's p95 / mean run", p(0.95, times(little)) / (meanS(much) * 1000), {
      most: 2,
      ceiling: 5,
      digits: 2,
    });
    row.measured("and / the large one's p50", p(0.95, times(little)) / p(0.5, times(much)), {
      ceiling: 0.5,
      digits: 2,
    });
    row.measured("Jain of the 200, by their mean times", jain(meansOf(much)), { least: 0.95, floor: 0.8 });
    row.measured("Jain of the 5", jain(meansOf(little)), { least: 0.95, floor: 0.8 });
  },
);
