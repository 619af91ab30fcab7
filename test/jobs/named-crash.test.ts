/** A job that was given a name is made once, wherever its submission is cut off. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import type { JobShown } from "./shown.ts";

/** From its sending to the kill: before anything is written, in the middle, and about its answer. */
const CUTS_MS = [5, 15, 25, 35, 45, 55, 65, 75, 85, 100, 120, 150];
/** A submission that was cut off in its middle is known for one after a minute. */
const KNOWN_MS_MAX = 100_000;
const TEST_MS_MAX = 240_000;

const door = doorway({ child: true });

test(
  "kill -9 while it is handed in, and the same again: one job of each name",
  async () => {
    const key = await door.key();
    // None of them runs meanwhile: what is counted is what was taken.
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
    // Who has heard of a job hears of the same.
    for (const [name, id] of first.entries()) if (id !== null) expect(again[name]).toBe(id);
    const list = JSON.parse((await door.ask("/v1/jobs?limit=100", { key })).text) as { data: JobShown[] };
    expect(list.data.map(({ id }) => id).toSorted()).toEqual(again.toSorted());
  },
  TEST_MS_MAX,
);
