/**
 * The runtime ends in the middle of its work, gracefully and killed: what the cards see, and when all slots are free.
 */
import { eventually, sleep } from "../line/caller.ts";
import { openLine } from "../line/line.ts";
import { fault } from "./case.ts";
import { closed, good, type Sample, send, statuses } from "./crowd.ts";

const line = openLine({ child: true });
const LEASE_MS = 40_000;
const DRAIN = { max_s: 3 };
const QUEUE = { max: 1_000, timeout_s: 90 };
const USERS = 24;
/** Longer than a restart takes: runs of the killed runtime are still at work when it is back. */
const LONG_MS = 10_000;
const WINDOW_MS = 6_000;

/** Both accidents wait for the same lease life: one hits three cards, the other the other three. */
interface Story {
  stopped: { samples: Sample[]; over: number; downMs: number };
  killed: {
    over: number;
    ghosts: number;
    waitersStarted: number;
    freeAfterMs: number;
    rateBefore: number;
    rateAfter: number;
  };
  after: number[];
}

let story: Promise<Story> | undefined;
const told = () => (story ??= happen());

async function happen(): Promise<Story> {
  const cards = line.park.cards.map(({ card }) => card);
  const [some, others] = [cards.slice(0, 3), cards.slice(3)];
  const config = { queue: QUEUE, drain: DRAIN };
  const [one, other] = [await line.service(config, { cards: some }), await line.service(config, { cards: others })];
  const key = await line.key();
  line.park.setService({ service_ms: 300, jitter: 0.3 });
  const before = await closed({ line, service: other, key, users: USERS, windowMs: 4_000 });

  // Gracefully, under load: running and waiting requests lose their connection.
  const crowd = closed({ line, service: one, key, users: 12, warmUpMs: 0, windowMs: 5_000 });
  await sleep(1_500);
  const stoppedAt = performance.now();
  await line.portico.restart();
  const downMs = performance.now() - stoppedAt;
  // Callers that came back wait until the lost leases end, and are answered then.
  const stopped = crowd;
  await sleep(1_000);

  // Killed without warning.
  line.park.setService({ service_ms: LONG_MS, jitter: 0 });
  const running = await line.calls(6, { service: other, key });
  await line.running(running);
  const waiting = await line.calls(6, { service: other, key });
  await eventually("they wait", async () => (await line.queued(other)) === 6);
  const diedAt = Date.now();
  await line.portico.kill9();
  await line.portico.restart();
  const ghosts = line.park.counts().running;
  line.park.setService({ service_ms: 300, jitter: 0.3 });
  const first = send({ line, service: other, key }, undefined, 0, 0, "the first after the crash");
  const again = closed({
    line,
    service: other,
    key,
    users: USERS,
    warmUpMs: diedAt + LEASE_MS + DRAIN.max_s * 1_000 + 1_000 - Date.now(),
    windowMs: WINDOW_MS,
  });
  await first;
  const freeAfterMs =
    (line.park.runs().find(({ prompt }) => prompt === "the first after the crash")?.started_at ?? Infinity) - diedAt;
  const waitersStarted = waiting.filter((caller) => line.starts(caller) > 0).length;
  const after = await again;
  const last = await Promise.all(
    Array.from({ length: 12 }, (_, i) => send({ line, service: one, key }, undefined, i, 0, `last ${i}`)),
  );
  const { samples, over } = await stopped;
  await line.fillsUp();
  return {
    stopped: { samples, over, downMs },
    killed: {
      over: after.over + line.park.counts().over,
      ghosts,
      waitersStarted,
      freeAfterMs,
      rateBefore: good(before).length / 4,
      rateAfter: good(after).length / (WINDOW_MS / 1000),
    },
    after: last.map(({ status }) => status),
  };
}

fault(
  {
    number: "7",
    injection: "kill -9 of the runtime with 6 runs of 10 s under way and 6 in line, started again at once",
    expected: "0 over; 0 slots leaked after the lease's life (40 s); >= .95 of the rate before within 10 s of it",
    limitMs: 200_000,
  },
  async (row) => {
    const { killed } = await told();
    row.exactly("over", killed.over);
    row.exactly("ghosts at work when it was back", killed.ghosts, 6);
    row.exactly("of those in line started", killed.waitersStarted);
    row.measured("first start after, s", killed.freeAfterMs / 1000, { most: 45, ceiling: 60, digits: 1 });
    row.note(`${killed.rateBefore.toFixed(1)}/s before, ${killed.rateAfter.toFixed(1)}/s after`);
    row.measured("of the rate before", killed.rateAfter / killed.rateBefore, { least: 0.95, floor: 0.6 });
    row.note("all 12 slots ran at once");
  },
);

fault(
  {
    number: "8b",
    injection: "orderly restart (SIGTERM) of the runtime under 12 users on 3 cards",
    expected:
      "0 over; every slot back within the lease's life; locally who was on a card or in line is cut (8a: the deploy itself)",
    limitMs: 200_000,
  },
  async (row) => {
    const { stopped, after } = await told();
    row.exactly("over", stopped.over);
    row.note(
      `away for ${(stopped.downMs / 1000).toFixed(1)} s; answers meanwhile: ${statuses(stopped.samples)} (0: cut or refused)`,
    );
    const odd = stopped.samples.filter(({ status }) => status !== 200 && status !== 0);
    row.exactly("other answers", odd.length);
    row.exactly("of 12 afterwards not answered", after.filter((status) => status !== 200).length);
  },
);
