import { expect, test } from "vitest";
import { recent } from "../../../worker/operate/recent.ts";

const sleep = (ms: number) =>
  new Promise<void>((resolve) => {
    setTimeout(resolve, ms);
  });

/** Counts its calls; each takes some time. */
function counted(takesMs: number) {
  let made = 0;
  return async () => {
    const mine = ++made;
    await sleep(takesMs);
    return mine;
  };
}

test("concurrent callers share one computation", async () => {
  const ask = recent(200, counted(50));
  expect(await Promise.all(Array.from({ length: 10 }, () => ask(null)))).toEqual(Array.from({ length: 10 }, () => 1));
});

test("an answer is kept from the moment its computation began, and no longer", async () => {
  const ask = recent(100, counted(10));
  expect(await ask(null)).toBe(1);
  expect(await ask(null)).toBe(1);
  await sleep(110);
  expect(await ask(null)).toBe(2);
});

test("a caller that comes during a slow computation does not get an answer that is too old by then", async () => {
  const ask = recent(20, counted(80));
  const first = ask(null);
  await sleep(5);
  const second = ask(null);
  expect(await first).toBe(1);
  // It came after the computation began, so that answer would be too old for it.
  expect(await second).toBe(2);
});

test("a failed computation fails only its caller, and the next one computes again", async () => {
  let calls = 0;
  const ask = recent(1_000, async () => {
    calls += 1;
    await sleep(20);
    if (calls === 1) throw new Error("no");
    return calls;
  });
  const outcomes = await Promise.allSettled([ask(null), ask(null), ask(null)]);
  expect(outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : "failed"))).toEqual([
    "failed",
    2,
    2,
  ]);
});
