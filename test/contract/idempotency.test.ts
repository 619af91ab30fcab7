/** `Idempotency-Key`: contract 5, as a caller sees it. */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { JobShown } from "../jobs/shown.ts";
import { over } from "../jobs/shown.ts";
import { doorway, expectOk, linksOf, picture, refusalOf } from "./doorway.ts";

const door = doorway();
const named = (name: string, more: Record<string, string> = {}) => ({ headers: { "idempotency-key": name, ...more } });
const SLOW = { width: 1024, height: 1024, steps: 60 };

test("the same name and body give the same answer and one run, marked as such", async () => {
  for (const seed of [11, -1]) {
    const name = randomUUID();
    const json = picture({ seed, prompt: "one run" });
    const before = door.starts();
    const first = expectOk(await door.paint(json, named(name)));
    expect(first.header("idempotent-replayed")).toBeNull();
    const again = expectOk(await door.paint(json, named(name)));
    expect(again.header("idempotent-replayed")).toBe("true");
    expect(again.text).toBe(first.text);
    expect(linksOf(again).map((url) => new URL(url).pathname)).toEqual(
      linksOf(first).map((url) => new URL(url).pathname),
    );
    expect(door.starts() - before).toBe(1);
  }
});

test("a sound, streamed or not, is replayed as well", async () => {
  for (const stream of [false, true]) {
    const name = randomUUID();
    const before = door.starts();
    const json = { text: `Once ${stream}.`, stream };
    const first = expectOk(await door.speak(json, named(name)));
    const again = expectOk(await door.speak(json, named(name)));
    expect(again.header("idempotent-replayed")).toBe("true");
    expect(again.body.equals(first.body)).toBe(true);
    expect(door.starts() - before).toBe(1);
  }
});

test("another body under the same name is refused", async () => {
  const name = randomUUID();
  expectOk(await door.paint(picture({ seed: 1 }), named(name)));
  expect(refusalOf(await door.paint(picture({ seed: 2 }), named(name)))).toBe(
    "422 idempotency_mismatch invalid_request_error idempotency_mismatch",
  );
});

test("while the first is under way the second is told to come back", async () => {
  const name = randomUUID();
  const json = picture({ ...SLOW });
  const first = door.paint(json, named(name));
  await new Promise((resolve) => setTimeout(resolve, 150));
  const second = await door.paint(json, named(name));
  expect(refusalOf(second)).toBe("409 conflict invalid_request_error idempotency_in_flight");
  expect(second.header("retry-after")).toBe("1");
  expectOk(await first);
  expect(expectOk(await door.paint(json, named(name))).header("idempotent-replayed")).toBe("true");
});

test("the scope is the tenant, the method and the path", async () => {
  const name = randomUUID();
  const json = picture({ seed: 5 });
  expectOk(await door.paint(json, named(name)));
  const stranger = await door.key();
  expect(expectOk(await door.paint(json, { ...named(name), key: stranger })).header("idempotent-replayed")).toBeNull();
  const job = await door.ask("/v1/jobs", { json: { service: "portrait", input: json }, ...named(name) });
  expect(job.status).toBe(202);
  expect(job.header("idempotent-replayed")).toBeNull();
});

test("an origin's own error is replayed, ours are not", async () => {
  const name = randomUUID();
  const bad = picture({ prompt: 7 });
  const first = await door.paint(bad, named(name));
  expect(first.status).toBe(422);
  const again = await door.paint(bad, named(name));
  expect([again.status, again.text]).toEqual([422, first.text]);
  expect(again.header("idempotent-replayed")).toBe("true");
  const refused = await door.paint({ width: 9000 }, named(`${name}-ours`));
  expect(refused.status).toBe(400);
  expectOk(await door.paint({}, named(`${name}-ours`)));
});

test("a job is made once", async () => {
  const name = randomUUID();
  const json = { service: "portrait", input: picture() };
  const first = await door.ask("/v1/jobs", { json, ...named(name) });
  const again = await door.ask("/v1/jobs", { json, ...named(name) });
  expect([first.status, again.status]).toEqual([202, 202]);
  const { id } = JSON.parse(first.text) as JobShown;
  expect((JSON.parse(again.text) as JobShown).id).toBe(id);
  expect(again.header("idempotent-replayed")).toBe("true");
  expect(again.header("location")).toBe(`/v1/jobs/${id}`);
  await over(door, id);
  const async = { prefer: "respond-async" };
  const one = await door.paint(picture({ seed: 77 }), named(`${name}-route`, async));
  const two = await door.paint(picture({ seed: 77 }), named(`${name}-route`, async));
  expect((JSON.parse(two.text) as JobShown).id).toBe((JSON.parse(one.text) as JobShown).id);
  expect(two.header("idempotent-replayed")).toBe("true");
  await over(door, (JSON.parse(one.text) as JobShown).id);
});

test("a name is 1 to 255 characters, and goes with a body that can be compared", async () => {
  expect(refusalOf(await door.paint({}, named("x".repeat(256))))).toContain("400 invalid_request");
  expectOk(await door.paint({}, named("x".repeat(255))));
  const large = { prompt: "x".repeat(9 * 1024 * 1024) };
  expect(refusalOf(await door.paint(large, named("large")))).toContain("400 invalid_request");
});
