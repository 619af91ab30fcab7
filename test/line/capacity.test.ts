import { expect, test } from "vitest";
import { tally } from "./caller.ts";
import { openLine } from "./line.ts";

const line = openLine({ services: { portrait: { drain: { max_s: 2 } } } });
const SLOTS = 12;

test("a card never runs more than its slots: 300 requests at once on objects that were never called", async () => {
  // The standard service is created at startup, and its objects have never been called.
  const service = { id: "portrait", kind: "image" as const, path: "/sdapi/v1/txt2img" };
  const key = await line.key();
  line.park.setService({ service_ms: 50 });
  await line.portico.admin("PUT", "/services/portrait", { queue: { max: 1000 } });
  const answers = await Promise.all((await line.calls(300, { service, key })).map((caller) => caller.answered));
  expect(tally(answers)).toEqual({ 200: 300 });
  expect(answers.every(({ whole }) => whole)).toBe(true);
  expect(line.park.counts()).toMatchObject({ starts: 300, done: 300, over: 0, ghosts: 0 });
  expect(line.park.counts().highest).toBeLessThanOrEqual(SLOTS);
});

test("200 requests at once on twelve slots use every slot, exceed none, and are all answered", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 100 });
  const answers = await Promise.all((await line.calls(200, { service, key })).map((caller) => caller.answered));
  expect(tally(answers)).toEqual({ 200: 200 });
  expect(line.park.counts()).toMatchObject({ starts: 200, done: 200, over: 0, highest: SLOTS });
});

test("two services that share the cards share their slots", async () => {
  const [one, other] = [await line.service(), await line.service({}, { kind: "tts" })];
  const key = await line.key();
  // Long compared with the time it takes to fill all slots.
  line.park.setService({ service_ms: 300 });
  const callers = [
    ...(await line.calls(60, { service: one, key })),
    ...(await line.calls(60, { service: other, key })),
  ];
  expect(tally(await Promise.all(callers.map((caller) => caller.answered)))).toEqual({ 200: 120 });
  expect(line.park.counts()).toMatchObject({ starts: 120, done: 120, over: 0, highest: SLOTS });
});

test("no wake-up is lost: one service's line moves when the other's runs end", async () => {
  const [one, other] = [await line.service(), await line.service()];
  const key = await line.key();
  line.park.setService({ service_ms: 1_000 });
  const first = await line.calls(SLOTS, { service: one, key });
  await line.running(first);
  const second = await line.calls(SLOTS, { service: other, key });
  expect(tally(await Promise.all([...first, ...second].map((caller) => caller.answered)))).toEqual({ 200: SLOTS * 2 });
  const runs = line.park.runs();
  const ended = Math.max(...runs.slice(0, SLOTS).map((run) => run.ended_at ?? Infinity));
  const started = Math.max(...runs.slice(SLOTS).map((run) => run.started_at));
  expect(started - ended).toBeLessThan(2_000);
});
