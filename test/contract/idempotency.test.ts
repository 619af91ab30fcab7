/** `Idempotency-Key`, as a caller sees it. */
import { randomUUID } from "node:crypto";
import { expect, test, vi } from "vitest";
import type { JobShown } from "../jobs/shown.ts";
import { over } from "../jobs/shown.ts";
import { doorway, errorOf, expectOk, linksOf, picture, refusalOf } from "./doorway.ts";
import { listOrigin, Origin } from "./origin.ts";

const door = doorway();
const named = (name: string, more: Record<string, string> = {}) => ({ headers: { "idempotency-key": name, ...more } });
/** An isolate caches the list of services for 5 s. */
const CONFIGURED_MS_MAX = 8_000;
const SLOW = { width: 1024, height: 1024, steps: 60 };

test("the same idempotency key and body give the same answer from one run, marked as replayed", async () => {
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

test("a sound is replayed, streamed or not", async () => {
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

test("another body under the same idempotency key is refused", async () => {
  const name = randomUUID();
  expectOk(await door.paint(picture({ seed: 1 }), named(name)));
  expect(refusalOf(await door.paint(picture({ seed: 2 }), named(name)))).toBe(
    "422 idempotency_mismatch invalid_request_error idempotency_mismatch",
  );
});

test("a second request gets 409 with Retry-After while the first is under way", async () => {
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

test("an idempotency key is scoped to the tenant, the method and the path", async () => {
  const name = randomUUID();
  const json = picture({ seed: 5 });
  expectOk(await door.paint(json, named(name)));
  const stranger = await door.key();
  expect(expectOk(await door.paint(json, { ...named(name), key: stranger })).header("idempotent-replayed")).toBeNull();
  const job = await door.ask("/v1/jobs", { json: { service: "portrait", input: json }, ...named(name) });
  expect(job.status).toBe(202);
  expect(job.header("idempotent-replayed")).toBeNull();
});

test("an origin's own error is replayed, and our errors are not", async () => {
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

test("a finished request is replayed after its fields become forbidden, and a new one is refused", async () => {
  const name = randomUUID();
  const json = picture({ seed: 4, width: 640, height: 64 });
  expectOk(await door.paint(json, named(name)));
  const other = await door.paint({ ...json, width: 9_000 }, named(name));
  expect(refusalOf(other)).toBe("422 idempotency_mismatch invalid_request_error idempotency_mismatch");
  await door.portico.admin("PUT", "/services/portrait", { bounds: { width: 512 } });
  try {
    await vi.waitFor(
      async () => expect(refusalOf(await door.paint({ width: 640 }))).toContain("400 invalid_request"),
      CONFIGURED_MS_MAX,
    );
    expect(expectOk(await door.paint(json, named(name))).header("idempotent-replayed")).toBe("true");
    const first = await door.paint(json, named(`${name}-first`));
    expect([first.status, errorOf(first).param]).toEqual([400, "width"]);
  } finally {
    await door.portico.admin("PUT", "/services/portrait", { bounds: { width: 2_048 } });
  }
  await vi.waitFor(async () => expectOk(await door.paint(json, named(`${name}-first`))), CONFIGURED_MS_MAX);
});

test("a 429 of the origin is not replayed: the same idempotency key runs again", async () => {
  const origin = await Origin.open();
  let answers = 0;
  origin.answering = (res) =>
    res.writeHead(++answers === 1 ? 429 : 404, { "content-type": "application/json" }).end("{}");
  try {
    await listOrigin(door, origin, "busy", { kind: "image", route: "/busy/sdapi/v1/" });
    const ask = () => door.ask("/busy/sdapi/v1/txt2img", { json: picture({ seed: 1 }), ...named("busy") });
    expect([(await ask()).status, (await ask()).status, (await ask()).status]).toEqual([429, 404, 404]);
    expect(answers).toBe(2);
  } finally {
    origin.close();
  }
});

test("a deleted result is not replayed: a new run under its idempotency key takes quota again", async () => {
  const key = await door.key({ limits: { results_per_month: 1 } });
  const before = door.starts();
  const ask = () => door.paint(picture({ seed: -1, prompt: "gone since" }), { key, ...named("gone since") });
  const [made = ""] = linksOf(expectOk(await ask()));
  expect((await door.ask(new URL(made).pathname, { key, method: "DELETE" })).status).toBe(204);
  expect(refusalOf(await ask())).toBe("429 rate_limited rate_limit_error quota");
  expect(door.starts() - before).toBe(1);
});

test("a run that outlives its caller's deadline answers the next request with its idempotency key", async () => {
  const origin = await Origin.open();
  origin.answering = (res) =>
    void setTimeout(() => res.writeHead(200, { "content-type": "application/json" }).end('{"made":1}'), 2_500);
  try {
    await listOrigin(door, origin, "later", { kind: "http", route: "/later/" });
    const ask = (more = {}) => door.ask("/later/x", { json: { a: 1 }, ...named("later", more) });
    expect((await ask({ "x-timeout-s": "1" })).status).toBe(504);
    expect(expectOk(await ask()).text).toBe('{"made":1}');
    expect(origin.seen).toHaveLength(1);
  } finally {
    origin.close();
  }
});

test("a replayed job takes a rate token and reports the limits; respond-async is confirmed", async () => {
  const key = await door.key({ limits: { requests_per_minute: 1, burst: 3 } });
  const name = randomUUID();
  const json = { service: "portrait", input: picture() };
  const job = () => door.ask("/v1/jobs", { key, json, ...named(name) });
  const first = await job();
  const again = await job();
  expect([first.status, again.status, again.header("idempotent-replayed")]).toEqual([202, 202, "true"]);
  expect(again.header("ratelimit")).toContain('"requests";r=1');
  const route = { key, ...named(`${name}-route`, { prefer: "respond-async" }) };
  expect((await door.paint(picture(), route)).header("preference-applied")).toBe("respond-async");
  expect(refusalOf(await job())).toContain("429");
  await over(door, (JSON.parse(first.text) as JobShown).id, key);
});

test("a job is created once", async () => {
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

test("a submission with a known key and another body is 422, whatever else is wrong with the body", async () => {
  const headers = { "idempotency-key": randomUUID() };
  const input = picture();
  const calls: [target: string, good: object, bad: object[]][] = [
    ["/v1/jobs", { service: "portrait", input }, [{ nonsense: 1 }, { service: "none", input }]],
    ["/v1/batches", { jobs: [{ service: "portrait", input }] }, [{ jobs: [] }, { jobs: [{ service: "none", input }] }]],
    ["/replicate/v1/models/portico/portrait/predictions", { input }, [{ input: 7 }, { input, webhook: "no URL" }]],
    ["/fal/queue/portico/portrait", input, [[], { ...input, width: 9_000 }]],
  ];
  for (const [target, good, bad] of calls) {
    const first = await door.ask(target, { json: good, headers });
    expect(first.status, first.text).toBeLessThan(300);
    for (const json of bad) expect((await door.ask(target, { json, headers })).text, target).toContain("another body");
  }
});

test("an idempotency key has 1 to 255 characters and needs a body that can be compared", async () => {
  expect(refusalOf(await door.paint({}, named("x".repeat(256))))).toContain("400 invalid_request");
  expectOk(await door.paint({}, named("x".repeat(255))));
  const large = { prompt: "x".repeat(9 * 1024 * 1024) };
  expect(refusalOf(await door.paint(large, named("large")))).toContain("400 invalid_request");
});
