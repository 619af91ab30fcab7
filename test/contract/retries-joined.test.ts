/** Retries are safe by default: a retry joins the run that its caller abandoned. Runs are counted at the cards. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { beforeEach, expect, test } from "vitest";
import { type Answer, bytesOf, RawCall } from "../support/raw.ts";
import { doorway, expectOk, picture, refusalOf } from "./doorway.ts";

const RUN_MS = 1_500;
const door = doorway();

beforeEach(() => {
  door.park.reset();
  door.park.setService({ service_ms: RUN_MS });
});

type Headers = Record<string, string>;
const counted = (count: number): Headers => ({ "x-stainless-retry-count": String(count) });

/** Sends a request, and hangs up when a card has started it. */
async function letGo(json: object, headers: Headers): Promise<void> {
  const before = door.starts();
  const call = await RawCall.open(door.portico.url);
  const request = {
    method: "POST",
    target: "/sdapi/v1/txt2img",
    headers: { authorization: `Bearer ${door.ownKey}`, "content-type": "application/json", ...headers },
    body: JSON.stringify(json),
  };
  call.send(bytesOf(call.host, request));
  for (let i = 0; door.starts() === before; i++) {
    expect(i).toBeLessThan(500);
    await delay(10);
  }
  call.reset();
  await delay(100);
}

const again = (json: object, headers: Headers): Promise<Answer> => door.paint(json, { headers });
const replayed = (answer: Answer): string | null => expectOk(answer).header("idempotent-replayed");

test("a retry that the client counts joins the run that its caller abandoned", async () => {
  const json = picture({ seed: -1 });
  await letGo(json, counted(0));
  expect(replayed(await again(json, counted(1)))).toBe("true");
  expect(door.starts()).toBe(1);
});

test("a retry joins a run whose caller's connection still looks open", async () => {
  const json = picture({ seed: -1, prompt: "looks open" });
  const first = again(json, counted(0));
  for (let i = 0; door.starts() === 0; i++) {
    expect(i).toBeLessThan(500);
    await delay(10);
  }
  const retries = await Promise.all([again(json, counted(1)), again(json, counted(1))]);
  expect(retries.map(replayed)).toEqual(["true", "true"]);
  expect(retries[0]?.text).toBe(expectOk(await first).text);
  expect(door.starts()).toBe(1);
});

test("a retry after the end of an abandoned run gets its answer", async () => {
  const json = picture({ seed: -1, prompt: "after its end" });
  await letGo(json, counted(0));
  await delay(RUN_MS + 500);
  expect(replayed(await again(json, counted(1)))).toBe("true");
  expect(replayed(await again(json, counted(2)))).toBe("true");
  expect(door.starts()).toBe(1);
});

test("the same Idempotency-Key joins a run once its caller is gone", async () => {
  const json = picture({ seed: -1, prompt: "named" });
  const name = { "idempotency-key": randomUUID() };
  await letGo(json, name);
  expect(replayed(await again(json, name))).toBe("true");
  expect(door.starts()).toBe(1);
});

test("a retry of a cacheable request joins by its content and is marked as replayed", async () => {
  const json = picture();
  await letGo(json, counted(0));
  expect(replayed(await again(json, counted(1)))).toBe("true");
  expect(door.starts()).toBe(1);
});

test("anything else runs again: no retry count, another body, another tenant, or a delivered answer", async () => {
  const json = picture({ seed: -1, prompt: "anything else" });
  await letGo(json, counted(0));
  const stranger = await door.key();
  const others = await Promise.all([
    again(json, {}),
    again({ ...json, steps: 2 }, counted(1)),
    door.paint(json, { headers: counted(1), key: stranger }),
  ]);
  expect(others.map(replayed)).toEqual([null, null, null]);
  expect(door.starts()).toBe(4);
  const other = picture({ seed: -1, prompt: "delivered" });
  expect(replayed(await again(other, counted(0)))).toBeNull();
  expect(replayed(await again(other, counted(1)))).toBeNull();
  expect(door.starts()).toBe(6);
});

test("two identical first requests make two runs", async () => {
  const json = picture({ seed: -1, prompt: "twins" });
  const twins = await Promise.all([again(json, counted(0)), again(json, counted(0))]);
  expect(twins.map(replayed)).toEqual([null, null]);
  expect(door.starts()).toBe(2);
});

test("a failed request is not replayed to its retry", async () => {
  const json = picture({ seed: -1, prompt: 7 });
  const first = await again(json, counted(0));
  expect(first.status).toBe(422);
  const retry = await again(json, counted(1));
  expect(retry.status).toBe(422);
  expect(retry.header("idempotent-replayed")).toBeNull();
});

test("the same Idempotency-Key gets 409 while its caller is still there", async () => {
  const json = picture({ seed: -1, prompt: "still there" });
  const name = { "idempotency-key": randomUUID() };
  const first = again(json, name);
  await delay(300);
  expect(refusalOf(await again(json, name))).toBe("409 conflict invalid_request_error idempotency_in_flight");
  expectOk(await first);
});
