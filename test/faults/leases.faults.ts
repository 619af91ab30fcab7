/**
 * Slots under accidents: objects that were never called, objects that lose their memory under load, a runtime that is
 * stopped for longer than a lease lives, forged and repeated calls.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { LEASE_MS, type Ending } from "../../durable-objects/card-protocol.ts";
import { bundle } from "../../local/build.ts";
import { ROOT } from "../../local/root.ts";
import { eventually, sleep, tally } from "../line/caller.ts";
import { openLine } from "../line/line.ts";
import { descendantsOf } from "../support/processes.ts";
import { bytesOf, RawCall } from "../support/raw.ts";
import { attemptOf, type CardObject, cardObject, endObject } from "./objects.ts";
import { fault } from "./case.ts";
import { closed, errors, good, send, statuses } from "./crowd.ts";

const SLOTS = 12;
const mortal = await bundle(join(import.meta.dirname, "mortal.ts"), join(ROOT, "dist", "faults"));
const line = openLine({ bundle: mortal.path });
const CLEAN: Ending = { clean: true, health: null, reason: null };

const cards = () => Promise.all(line.park.cards.map(({ card }) => cardObject(line, card)));
const incarnations = async () => Promise.all((await cards()).map(async (card) => (await card.report()).incarnation));

fault(
  {
    number: "2",
    injection: "500 requests in one moment on objects that nobody has called since the start",
    expected: "0 over; no object made twice; all answered, or 503",
    limitMs: 120_000,
  },
  async (row) => {
    const service = await line.service({ queue: { max: 1_000 } });
    const key = await line.key();
    line.park.setService({ service_ms: 50 });
    const before = await incarnations();
    await line.portico.restart();
    const calls = await Promise.all(Array.from({ length: 500 }, () => RawCall.open(line.portico.url)));
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    const from = performance.now();
    for (const [i, call] of calls.entries()) {
      const body = JSON.stringify({ prompt: `volley ${i}`, width: 32, height: 32, steps: 1 });
      call.send(bytesOf(call.host, { method: "POST", target: service.path, headers, body }));
    }
    row.note(`sent within ${(performance.now() - from).toFixed(0)} ms`);
    const answers = await Promise.all(calls.map((call) => call.answer()));
    const { over, highest, starts } = line.park.counts();
    row.exactly("over", over);
    row.figure("most in the cluster", highest, highest <= SLOTS);
    row.figure(
      "answers",
      JSON.stringify(tally(answers)),
      answers.every(({ status, whole }) => whole && (status === 200 || status === 503)),
    );
    row.exactly("starts less answers", starts - answers.filter(({ status }) => status === 200).length);
    const made = (await incarnations()).map((incarnation, i) => incarnation - (before[i] ?? 0));
    row.figure(
      "times each Card was made",
      made.join(" "),
      made.every((times) => times === 1),
    );
  },
);

fault(
  {
    number: "8a",
    injection: "every Card, the Pool and the Tenant end at once, three times, under 50 users, as in a deploy",
    expected: "0 over, 0 failed requests",
    limitMs: 120_000,
  },
  async (row) => {
    const service = await line.service({ queue: { max: 1_000 } });
    const wide = { requests_per_minute: 1_000_000, burst: 1_000_000, concurrent: 1_000, waiting: 10_000 };
    const tenant = await line.portico.tenant(wide);
    const key = await line.portico.key({ tenant });
    line.park.setService({ service_ms: 300, jitter: 0.3 });
    const before = await incarnations();
    const load = closed({ line, service, key, users: 50, windowMs: 8_000 });
    const ends: Record<string, number> = {};
    for (let i = 0; i < 3; i++) {
      await sleep(2_000);
      const names = [
        ["POOL", service.id],
        ["TENANT", tenant],
        ...line.park.cards.map(({ card }) => ["CARD", card]),
      ] as [string, string][];
      await Promise.all(
        names.map(async ([binding, name]) => {
          await endObject(line, binding, name);
          ends[binding] = (ends[binding] ?? 0) + 1;
        }),
      );
    }
    const seen = await load;
    row.exactly("over", seen.over);
    row.note(`ended ${JSON.stringify(ends)}, ${good(seen).length} good answers`);
    row.figure("failed", statuses(errors(seen)), errors(seen).length === 0);
    const made = (await incarnations()).map((incarnation, i) => incarnation - (before[i] ?? 0));
    row.figure(
      "times each Card was made",
      made.join(" "),
      made.every((times) => times >= 3),
    );
  },
);

fault(
  {
    number: "9",
    injection:
      "SIGSTOP of the runtime for 45 s (a lease lives 40 s), with 11 runs of 8 s, 8 in line and one lease held from outside; SIGCONT",
    expected:
      "0 over; the outside holder's late release is refused by its number; no run twice; every request answered once",
    limitMs: 150_000,
  },
  async (row) => {
    const service = await line.service({ queue: { timeout_s: 120 }, drain: { max_s: 3 } });
    const key = await line.key();
    line.park.setService({ service_ms: 8_000 });
    const card = line.park.cards[0]?.card ?? "";
    const object = await cardObject(line, card);
    const held = await object.claim(attemptOf("att_outside", service.id));
    if ("no" in held) throw new Error(held.no);
    const ask = (i: number) => send({ line, service, key }, undefined, i, 0, `stopped ${i}`);
    const asked = Array.from({ length: 19 }, (_, i) => ask(i));
    await eventually("eleven run", () => line.park.counts().running === SLOTS - 1);
    await eventually("eight wait", async () => (await line.queued(service)) === 8);
    const workerd = descendantsOf(process.pid).filter(
      (pid) => readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "workerd",
    );
    expect(workerd).toHaveLength(1);
    const [pid = 0] = workerd;
    process.kill(pid, "SIGSTOP");
    try {
      await sleep(LEASE_MS + 5_000);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    line.park.setService({ service_ms: 300 });
    const answers = await Promise.all(asked);
    row.figure(
      "answers",
      statuses(answers),
      answers.every(({ status }) => status === 200),
    );
    row.exactly("starts", line.park.counts().starts, 19);
    const again = await ask(99);
    row.figure("the next", again.status, again.status === 200);
    await eventually("the outside lease has ended", async () => (await object.report()).held.length === 0);
    const late = await object.release(held.number, "att_outside", CLEAN);
    row.figure("the late release", late.released ? "taken" : `refused (${late.why})`, !late.released);
    const renewed = await object.renew(held.number, "att_outside");
    row.figure("the late renewal", renewed.renewed ? "taken" : `refused (${renewed.why})`, !renewed.renewed);
    await sleep(500);
    row.exactly("over", line.park.counts().over);
  },
);

fault(
  {
    number: "10",
    injection:
      "releases and renewals with numbers -1, 0, 0.5, 2^53, NaN, '1 OR 1=1', a foreign attempt, and the same release twice",
    expected: "0 effect; each is refused and counted",
  },
  async (row) => {
    const service = await line.service();
    const object = await cardObject(line, line.park.cards[1]?.card ?? "");
    const held = await object.claim(attemptOf("att_true", service.id));
    if ("no" in held) throw new Error(held.no);
    const counters = async () => (await object.status()).counters;
    const before = await counters();
    const forged: [unknown, unknown][] = [
      ...[-1, 0, 0.5, 2 ** 53, Number.NaN, "1 OR 1=1"].map((number): [unknown, unknown] => [number, "att_true"]),
      [held.number, "att_foreign"],
      [held.number, "' OR ''='"],
      [held.number + 1, "att_true"],
      [String(held.number), "att_true"],
    ];
    let taken = 0;
    for (const [number, attempt] of forged) {
      if ((await object.release(number, attempt, CLEAN)).released) taken++;
      if ((await object.renew(number, attempt)).renewed) taken++;
    }
    row.exactly("forged words taken", taken);
    row.exactly("counted as stale", ((await counters())["stale"] ?? 0) - (before["stale"] ?? 0), 2 * forged.length);
    row.exactly("leases held after them", (await object.report()).held.length, 1);
    const first = await object.release(held.number, "att_true", CLEAN);
    const second = await object.release(held.number, "att_true", CLEAN);
    row.figure("its own release", first.released ? "taken" : "refused", first.released);
    row.note(`the same again ${second.released ? "taken" : `refused (${second.why})`}`);
    row.exactly("leases held", (await object.report()).held.length);
    const ended = (await counters())["failed"] ?? 0;
    row.exactly("ends counted", ended - (before["failed"] ?? 0), 1);
  },
);

fault(
  {
    number: "11",
    injection: "a claim's reply lost after its commit, and the claim repeated: 1,000 times over six cards",
    expected: "exactly 1 slot held each time; 0 leaked",
    limitMs: 90_000,
  },
  async (row) => {
    const service = await line.service();
    const figures = { repeats: 0, others: 0, more: 0 };
    const lose = async (object: CardObject, name: string): Promise<void> => {
      for (let i = 0; i < 167; i++) {
        const attempt = attemptOf(`att_lost_${name}_${i}`, service.id);
        const lost = await object.claim(attempt);
        const again = await object.claim(attempt);
        if ("no" in lost || "no" in again || lost.number !== again.number) figures.others++;
        else {
          if (i % 20 === 0 && (await object.report()).held.length !== 1) figures.more++;
          await object.release(again.number, attempt.attempt, CLEAN);
        }
        figures.repeats++;
      }
    };
    await Promise.all((await cards()).map((object, i) => lose(object, String(i))));
    row.note(`${figures.repeats} repeats`);
    row.exactly("got another lease or none", figures.others);
    row.exactly("held more than one slot", figures.more);
    row.exactly("leases left", (await line.leases()).length);
    await line.fillsUp();
    row.exactly("over", line.park.counts().over);
  },
);
