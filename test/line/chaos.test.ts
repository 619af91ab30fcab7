import { expect, test } from "vitest";
import type { FaultInput } from "../../sim/faults.ts";
import { sleep } from "./caller.ts";
import { expectSound, openLine, type Service } from "./line.ts";

const line = openLine();
const USERS = 40;
const LOAD_MS = 6_000;
const SERVICE_MS = 150;
/** Longer than any run, including a run that goes on after its connection broke. */
const DRAIN = { max_s: 3 };
const CONFIG = {
  drain: DRAIN,
  breaker: { max_fails: 3, fail_timeout_s: 1 },
  timeouts: { read_s: 1 },
  queue: { timeout_s: 15 },
};

/** Every card but the last has a different fault. */
const TROUBLES: FaultInput[] = [
  { kind: "status", status: 500, probability: 0.3 },
  { kind: "reset", at: "after", after_ms: 40, goes_on: true, probability: 0.3 },
  { kind: "flap", up_ms: 700, down_ms: 300 },
  { kind: "hang", busy_ms: 1_500, probability: 0.1 },
  { kind: "truncate", how: "length", probability: 0.3 },
];

/** The statuses that callers may get; any other is a bug. */
const EXPECTED = new Set([200, 502, 503, 504]);

async function user(number: number, services: Service[], key: string, until: number): Promise<number[]> {
  const statuses: number[] = [];
  for (let turn = number; performance.now() < until; turn += 1) {
    const service = services[turn % services.length];
    if (service === undefined) throw new Error("no service");
    const body = service.kind === "tts" ? { stream: turn % 2 === 0 } : {};
    const caller = await line.call({ service, key, body });
    if (turn % 10 < 3) {
      await sleep((turn * 37) % 400);
      caller.hangUp();
      continue;
    }
    statuses.push((await caller.answered).status);
  }
  return statuses;
}

test("a card never runs more than its slots under faults of every kind, hang-ups and three services", async () => {
  const services = [
    await line.service({ ...CONFIG, abandon: "finish" }),
    await line.service({ ...CONFIG, abandon: "finish" }, { kind: "tts" }),
    await line.service({ ...CONFIG, abandon: "finish", retry: { tries: 1 } }),
  ];
  const keys = [await line.key(), await line.key({ limits: { concurrent: 4 } })];
  line.park.setService({ service_ms: SERVICE_MS, jitter: 0.3, speech_s: 1 });
  const cards = line.park.cards.map(({ card }) => card);
  for (const [i, fault] of TROUBLES.entries()) await line.park.setFault(cards[i] ?? "", fault);
  const until = performance.now() + LOAD_MS;
  const users = Array.from({ length: USERS }, (_, i) => user(i, services, keys[i % keys.length] ?? "", until));
  const statuses = (await Promise.all(users)).flat();
  expect(statuses.filter((status) => !EXPECTED.has(status))).toEqual([]);
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(USERS);
  await line.park.heal();
  await line.conserved();
  expectSound(line.park.counts());
  await line.fillsUp();
});
