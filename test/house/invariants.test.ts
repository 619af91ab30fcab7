/** The invariants of DESIGN.md that the Worker enforces, tested from outside; test/objects covers the others. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Portico, startPortico } from "../support/portico.ts";
import { raw } from "../support/raw.ts";

let portico: Portico;
beforeAll(async () => {
  // A breaker that never opens; other tests cover how a failing card affects later requests.
  portico = await startPortico({ child: true, services: { portrait: { breaker: { max_fails: 1_000 } } } });
});
afterAll(() => portico.stop());

const picture = (seed: number) => JSON.stringify({ prompt: "a harbour", seed, width: 64, height: 64, steps: 1 });

function call(key: string, method: string, target: string, body?: string, more: Record<string, string> = {}) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", ...more };
  return raw(portico.url, body === undefined ? { method, target, headers } : { method, target, headers, body });
}

const paint = (key: string, seed: number, more = {}) =>
  call(key, "POST", "/sdapi/v1/txt2img", picture(seed), { ...more });

/** Path of the first result that an answer links to, without its signature. */
const resultOf = (link: string | null | undefined) => /\/v1\/results\/[0-9A-Za-z]+/.exec(link ?? "")?.[0] ?? "";

test("Only complete answers are stored. A cut, failed or truncated answer is never reported as success.", async () => {
  const key = await portico.key();
  // A cut connection leaves its slot draining; with a short drain some card is always free.
  await portico.admin("PUT", "/services/portrait", { drain: { max_s: 1 } });
  for (const how of ["length", "chunked", "content"] as const) {
    for (const { card } of portico.park?.cards ?? []) {
      await portico.park?.setFault(card, { kind: "truncate", how, fraction: 0.6 });
    }
    const cut = await paint(key, 70, { "x-request-id": `cut-${how}` });
    expect(cut.status).toBeGreaterThanOrEqual(502);
    const record = JSON.parse((await call(key, "GET", `/v1/requests/cut-${how}`)).text) as object;
    expect(record).toMatchObject({ state: "failed", results: [] });
    await portico.park?.heal();
  }
});

test("No tenant can read another tenant's results or keys, guess them, or detect them by timing.", async () => {
  const [mine, theirs] = await Promise.all([portico.key(), portico.key()]);
  const made = await paint(mine, 71, { "x-request-id": "mine" });
  const path = resultOf(made.header("link"));
  expect((await call(mine, "GET", path)).status).toBe(200);
  const absent = "/v1/results/000000000000000000000000";
  for (const method of ["GET", "HEAD", "DELETE"]) {
    expect([(await call(theirs, method, path)).status, (await call(theirs, method, absent)).status]).toEqual([
      404, 404,
    ]);
  }
  expect((await call(theirs, "GET", "/v1/requests/mine")).status).toBe(404);
  expect((await paint(theirs, 71)).header("cache-status")).toBe("portico; fwd=miss; stored");
  expect((await call(mine, "GET", path)).status).toBe(200);
});

test("No state that matters is kept in a module variable of the Worker.", async () => {
  const key = await portico.key();
  const made = await paint(key, 72, { "x-request-id": "kept" });
  expect(made.status).toBe(200);
  await new Promise((resolve) => setTimeout(resolve, 500));
  await portico.kill9();
  await portico.restart();
  expect((await paint(key, 72)).header("cache-status")).toContain("portico; hit");
  expect((await call(key, "GET", resultOf(made.header("link")))).status).toBe(200);
  const record = JSON.parse((await call(key, "GET", "/v1/requests/kept")).text) as object;
  expect(record).toMatchObject({ state: "succeeded", status: 200 });
});
