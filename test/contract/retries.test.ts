/** Cases of `retry` that the simulated cards cannot show. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { doorway, expectOk, refusalOf } from "./doorway.ts";
import { answerImage, type Answering, listOrigin, Origin } from "./origin.ts";

const door = doorway({ cards: [] });
let [sick, busy]: Origin[] = [];
beforeAll(async () => {
  [sick, busy] = [await Origin.open(), await Origin.open()];
});
afterAll(() => {
  sick?.close();
  busy?.close();
});

const answer500: Answering = (res) => res.writeHead(500).end();

test("a request that gets no second card in time reports the first card's failure, as does its record", async () => {
  if (sick === undefined || busy === undefined) throw new Error("not open");
  const service = { kind: "http", route: "/two/", retry: { timeout_s: 1 } };
  await listOrigin(door, busy, "two", service, { slots: 1 });
  const letGo = Promise.withResolvers<void>();
  busy.answering = (res, seen) => void letGo.promise.then(() => answerImage(res, seen));
  const holder = door.ask("/two/x", { json: {} });
  await expect.poll(() => busy?.seen.length).toBe(1);
  sick.answering = answer500;
  await door.portico.admin("PUT", "/services/two/cards/sick", { origin: sick.url, slots: 1 });
  const answer = await door.ask("/two/x", { json: {}, headers: { "x-request-id": "no-second-card" } });
  expect(refusalOf(answer)).toBe("502 bad_gateway origin_error origin_status");
  const record = expectOk(await door.ask("/v1/requests/no-second-card"));
  expect(JSON.parse(record.text)).toMatchObject({ state: "failed", status: 502 });
  letGo.resolve();
  expectOk(await holder);
  expect([sick.seen.length, busy.seen.length]).toEqual([1, 1]);
});
