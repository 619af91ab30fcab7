/** A job with an idempotency key is created once, wherever its submission is cut off. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import type { JobShown } from "./shown.ts";

/** Times from submission to kill: before the first write, between writes, and around the answer. */
const CUTS_MS = [5, 15, 25, 35, 45, 55, 65, 75, 85, 100, 120, 150];
/** An interrupted submission is detected after a minute. */
const KNOWN_MS_MAX = 100_000;
const TEST_MS_MAX = 240_000;

const door = doorway({ child: true });

test(
  "a submission cut off by kill -9 and repeated under its idempotency key creates one job",
  async () => {
    const key = await door.key();
    // No job runs meanwhile, so the list contains all accepted jobs.
    await door.portico.admin("POST", "/services/portrait/pause");
    const handIn = (name: number) => {
      const json = { service: "portrait", input: picture({ seed: name }) };
      return door.ask("/v1/jobs", { key, json, headers: { "idempotency-key": `name-${name}` } });
    };
    const first: (string | null)[] = [];
    for (const [name, cutMs] of CUTS_MS.entries()) {
      const answer = handIn(name).catch(() => null);
      await delay(cutMs);
      await door.portico.kill9();
      const heard = await answer;
      first.push(heard?.status === 202 ? (JSON.parse(heard.text) as JobShown).id : null);
      await door.portico.restart();
    }
    const again = await Promise.all(
      CUTS_MS.map(async (_, name) => {
        for (const from = Date.now(); ; await delay(1_000)) {
          const { status, text } = await handIn(name);
          if (status === 202) return (JSON.parse(text) as JobShown).id;
          expect([status, Date.now() - from < KNOWN_MS_MAX], text).toEqual([409, true]);
        }
      }),
    );
    // A client that received a job's id gets the same id again.
    for (const [name, id] of first.entries()) if (id !== null) expect(again[name]).toBe(id);
    const list = JSON.parse((await door.ask("/v1/jobs?limit=100", { key })).text) as { data: JobShown[] };
    expect(list.data.map(({ id }) => id).toSorted()).toEqual(again.toSorted());
  },
  TEST_MS_MAX,
);
