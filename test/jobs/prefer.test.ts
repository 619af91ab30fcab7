/** The `Prefer` header on a service's own route. */
import { expect, test } from "vitest";
import { doorway, errorOf, expectOk, linksOf, picture, refusalOf } from "../contract/doorway.ts";
import { type JobShown, over } from "./shown.ts";

const door = doorway();
const prefer = (value: string) => ({ headers: { prefer: value } });

test("respond-async turns a run into a job", async () => {
  const answer = await door.paint({}, prefer("respond-async"));
  expect(answer.status, answer.text).toBe(202);
  expect(answer.header("preference-applied")).toBe("respond-async");
  const { id } = JSON.parse(answer.text) as JobShown;
  expect(answer.header("location")).toBe(`/v1/jobs/${id}`);
  expect(await over(door, id)).toMatchObject({ status: "succeeded", service: "portrait" });
});

test("wait=N answers as the plain route would", async () => {
  for (const seed of [7, -1]) {
    const json = picture({ prompt: "a quay", seed });
    const answer = expectOk(await door.paint(json, prefer("wait=30")));
    expect(answer.header("preference-applied")).toBe("wait=30");
    expect(answer.header("cache-status")).toBe(seed === 7 ? "portico; fwd=miss; stored" : "portico; fwd=bypass");
    expect(answer.header("x-portico-card")).toBeTruthy();
    expect((JSON.parse(answer.text) as { images: string[] }).images).toHaveLength(1);
    expect(linksOf(answer)).toHaveLength(1);
  }
  const sound = expectOk(await door.speak({ text: "A job that is waited for." }, prefer("wait=30")));
  expect(sound.body.subarray(0, 4).toString("latin1")).toBe("RIFF");
});

test("a body too large to hold in memory becomes a job like any other", async () => {
  const large = picture({ comments: "x".repeat(9 * 1024 * 1024), seed: 3 });
  const answer = expectOk(await door.paint(large, prefer("wait=30")));
  expect((JSON.parse(answer.text) as { images: string[] }).images).toHaveLength(1);
});

test("a stored answer applies the preference, and a job is found under its request's id", async () => {
  const json = picture({ prompt: "twice", seed: 12 });
  const made = expectOk(await door.paint(json, prefer("wait=30")));
  const hit = expectOk(await door.paint(json, prefer("wait=30")));
  expect([hit.header("preference-applied"), hit.header("cache-status")]).toEqual([
    "wait=30",
    expect.stringContaining("hit"),
  ]);
  const found = await door.ask(`/v1/requests/${made.header("x-request-id")}`);
  expect([found.status, (JSON.parse(found.text) as { state: string }).state]).toEqual([200, "succeeded"]);
});

test("a job is found under its own id, its request's id and the caller's request id", async () => {
  const headers = { prefer: "respond-async", "x-request-id": "my-own-name" };
  const handedIn = await door.paint(picture({ prompt: "named", seed: 13 }), { headers });
  const { id } = JSON.parse(handedIn.text) as JobShown;
  for (const name of [handedIn.header("x-request-id"), "my-own-name", id]) {
    const found = expectOk(await door.ask(`/v1/requests/${name}`));
    expect((JSON.parse(found.text) as { id: string }).id, `${name}`).toBe(id);
  }
});

test("a job must start by the caller's deadline, and an unstored answer has no Link", async () => {
  await door.portico.admin("POST", "/services/portrait/pause");
  try {
    const headers = { prefer: "wait=20", "x-timeout-s": "1" };
    const late = await door.paint(picture({ prompt: "late", seed: 14 }), { headers });
    expect(refusalOf(late)).toBe("503 service_unavailable cluster_overload queue_timeout");
  } finally {
    await door.portico.admin("POST", "/services/portrait/resume");
  }
  const unstored = { prefer: "wait=20", "cache-control": "no-store" };
  const answer = expectOk(await door.paint(picture({ prompt: "unstored", seed: 15 }), { headers: unstored }));
  expect(answer.header("link")).toBeNull();
});

test("a job that does not end within the wait is answered with 202", async () => {
  const slow = { steps: 150, width: 1024, height: 1024 };
  const answer = await door.paint(slow, prefer("wait=1"));
  expect(answer.status).toBe(202);
  const { id } = JSON.parse(answer.text) as JobShown;
  expect(answer.header("location")).toBe(`/v1/jobs/${id}`);
  await door.ask(`/v1/jobs/${id}/cancel`, { method: "POST" });
});

test("a failed job is answered like a failure on the plain route", async () => {
  const answer = await door.paint({ prompt: 7 }, prefer("wait=30"));
  const plain = await door.paint({ prompt: 7 });
  expect(answer.status).toBe(plain.status);
  expect(answer.text).toBe(plain.text);
  expect(errorOf(await door.paint({ width: 4096 }, prefer("wait=5")))).toMatchObject({ param: "width" });
});

test("an invalid preference is ignored, and a wait of more than a minute is shortened to a minute", async () => {
  const applied = async (value: string): Promise<string | null> =>
    expectOk(await door.paint({}, prefer(value))).header("preference-applied");
  for (const value of ["wait=61", "wait", "wait=99999999999999999999"]) expect(await applied(value)).toBe("wait=60");
  for (const value of ["wait = 5", 'wait="5"', 'return=minimal, WAIT\t=\t"5" ; x'])
    expect(await applied(value)).toBe("wait=5");
  for (const value of ["wait=0", "wait=abc", "wait=1.5", "wait=-1", "wait=", "waits=5", "await=5"])
    expect(await applied(value), value).toBeNull();
  const answer = await door.paint({}, prefer("wait=0, respond-async"));
  expect([answer.status, answer.header("preference-applied")]).toEqual([202, "respond-async"]);
});

test("a key without the jobs scope cannot create jobs", async () => {
  const key = await door.key({ scopes: ["infer"] });
  expect(refusalOf(await door.paint({}, { key, ...prefer("respond-async") }))).toBe(
    "403 forbidden permission_error scope",
  );
  expectOk(await door.paint({}, { key, ...prefer("return=minimal") }));
});

test("a no-store request is neither served from the cache nor stored when it runs as a job", async () => {
  const json = picture();
  expectOk(await door.paint(json));
  const before = door.starts();
  const unstored = await door.paint(json, { headers: { prefer: "wait=20", "cache-control": "no-store" } });
  expectOk(unstored);
  expect(door.starts() - before).toBe(1);
  const other = picture();
  expectOk(await door.paint(other, { headers: { prefer: "wait=20", "cache-control": "no-store" } }));
  expectOk(await door.paint(other));
  expect(door.starts() - before).toBe(3);
});

test("only-if-cached never starts a job's run: a stored answer is served, others get not_cached", async () => {
  const onlyIfCached = { "cache-control": "only-if-cached" };
  const json = picture();
  const before = door.starts();
  for (const value of ["respond-async", "wait=20"]) {
    const refused = await door.paint(json, { headers: { prefer: value, ...onlyIfCached } });
    expect(refusalOf(refused)).toBe("504 gateway_timeout origin_error not_cached");
  }
  const { id } = JSON.parse(
    (
      await door.ask("/replicate/v1/predictions", {
        json: { version: "portico/portrait", input: json },
        headers: onlyIfCached,
      })
    ).text,
  ) as JobShown;
  const queued = await door.ask("/fal/queue/portico/portrait", { json, headers: onlyIfCached });
  const { request_id: requestId } = JSON.parse(queued.text) as { request_id: string };
  for (const each of [id, requestId])
    expect(await over(door, each)).toMatchObject({ status: "failed", cost: 0, error: { reason: "not_cached" } });
  expect(door.starts()).toBe(before);
  expectOk(await door.paint(json));
  const hit = expectOk(await door.paint(json, { headers: { prefer: "respond-async", ...onlyIfCached } }));
  expect([hit.header("cache-status"), hit.header("preference-applied")]).toEqual([
    expect.stringContaining("hit"),
    null,
  ]);
});
