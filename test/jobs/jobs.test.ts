/** Jobs over HTTP: submission, status, lists, cancellation, events. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { doorway, errorOf, expectOk, picture, refusalOf, targetOf } from "../contract/doorway.ts";
import { listOrigin, Origin } from "../contract/origin.ts";
import { begun, type JobShown, over, show, submitted } from "./shown.ts";

const door = doorway({ speed: 1 });

test("a job is accepted at once and runs when a card is free", async () => {
  const answer = await door.ask("/v1/jobs", { json: { service: "portrait", input: picture() } });
  expect(answer.status, answer.text).toBe(202);
  const { id, status, waiting_on: waitingOn } = JSON.parse(answer.text) as JobShown;
  // All slots are free.
  expect(waitingOn).toBeNull();
  expect(answer.header("location")).toBe(`/v1/jobs/${id}`);
  expect(Number(answer.header("retry-after"))).toBeGreaterThan(0);
  expect(id).toMatch(/^job_[0-9A-Za-z]+$/);
  expect(status).toBe("queued");
  const job = await over(door, id);
  expect(job).toMatchObject({ id, service: "portrait", status: "succeeded", attempts: 1, progress: 1, error: null });
  expect(job.queue_position).toBeNull();
  expect(job.waiting_on).toBeNull();
  for (const at of [job.created_at, job.started_at, job.finished_at]) expect(at).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
  const [result] = job.results;
  expect(result).toMatchObject({ content_type: "image/png" });
  const png = expectOk(await door.ask(targetOf(result?.url ?? ""), { key: null }));
  expect(png.body.byteLength).toBe(result?.bytes);
  const output = job.output as Record<string, unknown>;
  expect(output["images"]).toBeUndefined();
  expect(output["info"]).toBeTypeOf("string");
});

test("a job can produce a sound", async () => {
  const id = await submitted(door, { service: "cosyvoice2", input: { text: "Good evening." } });
  const job = await over(door, id);
  expect(job).toMatchObject({ status: "succeeded", output: null });
  expect(job.results[0]?.content_type).toMatch(/^audio\//);
});

test("with ?wait the answer is held until the job's state changes", async () => {
  const id = await submitted(door, { service: "portrait", input: picture({ steps: 60, width: 512, height: 512 }) });
  const from = Date.now();
  let job = await show(door, id, "?wait=20");
  while (job.status !== "succeeded") job = await show(door, id, "?wait=20");
  expect(Date.now() - from).toBeLessThan(15_000);
  expect(refusalOf(await door.ask(`/v1/jobs/${id}?wait=31`))).toBe(
    "400 invalid_request invalid_request_error invalid_field",
  );
});

async function refusal(json: unknown): Promise<string> {
  const answer = await door.ask("/v1/jobs", { json });
  const { reason, param } = errorOf(answer);
  return `${answer.status} ${reason} ${param}`;
}

const nested = (levels: number): unknown => JSON.parse(`${"[".repeat(levels)}${"]".repeat(levels)}`);
const portrait = (more: object) => ({ service: "portrait", input: picture(more) });

test("an input that would reach the GPU altered is refused", async () => {
  expect(await refusal(portrait({ seed: 2 ** 60 }))).toBe("400 invalid_field input");
  expect(await refusal(portrait({ deep: nested(2_000) }))).toBe("400 malformed_json body");
  const job = await over(door, await submitted(door, portrait({ seed: 4_294_967_295 })));
  expect(job.status).toBe("succeeded");
});

test("an input nested too deeply to parse is passed on unchanged on the service's own route", async () => {
  const origin = await Origin.open();
  try {
    await listOrigin(door, origin, "deep", { kind: "image", route: "/deep/sdapi/v1/" });
    const body = `{"prompt":"deep","deep":${"[".repeat(20_000)}${"]".repeat(20_000)}}`;
    const headers = { prefer: "wait=30", "content-type": "application/json" };
    const answer = await door.ask("/deep/sdapi/v1/txt2img", { headers, body });
    expect(answer.status, answer.text.slice(0, 200)).toBe(200);
    expect(origin.taken().body.toString()).toBe(body);
  } finally {
    origin.close();
  }
});

test("a job shows its cost, and the error of its last try is the job's error", async () => {
  const made = await over(door, await submitted(door, { service: "portrait", input: picture() }));
  expect(made).toMatchObject({ status: "succeeded", cost: 1 });
  const failed = await over(door, await submitted(door, { service: "portrait", input: { prompt: 7 } }));
  expect(failed).toMatchObject({ status: "failed", cost: 0, error: { retryable: false } });
  expect(failed.tries.at(-1)?.error).toEqual(failed.error);
});

test("the results of a job have the visibility and lifetime that its request asks for", async () => {
  const headers = { "x-result-visibility": "private", "x-result-ttl": "60" };
  const json = { service: "portrait", input: picture({ seed: 71 }) };
  const answer = await door.ask("/v1/jobs", { json, headers });
  const job = await over(door, (JSON.parse(answer.text) as JobShown).id);
  expect(new URL(job.results[0]?.url ?? "").search).toBe("");
  const wrong = await door.ask("/v1/jobs", { json, headers: { "x-result-ttl": "0" } });
  expect([wrong.status, errorOf(wrong).param]).toEqual([400, "X-Result-TTL"]);
});

test("a retry counted by its client returns the job of the first try", async () => {
  const json = { service: "portrait", input: picture({ seed: -1, prompt: "counted" }) };
  const ask = async (count: number): Promise<string> => {
    const answer = await door.ask("/v1/jobs", { json, headers: { "x-stainless-retry-count": String(count) } });
    expect(answer.status, answer.text).toBe(202);
    return (JSON.parse(answer.text) as JobShown).id;
  };
  const [first, retry, other] = [await ask(0), await ask(1), await ask(0)];
  expect(retry).toBe(first);
  expect(other).not.toBe(first);
});

test("an invalid job is refused at submission", async () => {
  expect(await refusal({ service: "portrait" })).toBe("400 invalid_field input");
  expect(await refusal({ service: "portrait", input: picture({ width: 4096 }) })).toBe("400 invalid_field input.width");
  expect(await refusal({ service: "portrait", input: picture(), tenant: "ten_x" })).toBe("400 invalid_field tenant");
  expect(await refusal({ service: "portrait", input: picture(), priority: "urgent" })).toBe(
    "400 invalid_field priority",
  );
  expect(await refusal({ service: "nothing", input: {} })).toBe("404 not_found service");
  for (const path of ["options", "sd-models", "txt2img/"])
    expect(await refusal({ service: "portrait", path, input: {} })).toBe("400 invalid_field path");
  const bad = { service: "portrait", input: picture(), webhook: { url: "http://10.0.0.1/" } };
  expect(await refusal(bad)).toBe("400 invalid_field webhook.url");
});

test("numbers in a query consist of digits only", async () => {
  const id = await submitted(door, { service: "portrait", input: picture() });
  for (const wait of ["", "0x5", "1e1", "1.5", "-1", "+1", "31", "%205"]) {
    const answer = await door.ask(`/v1/jobs/${id}?wait=${wait}`);
    expect([answer.status, errorOf(answer).param], wait).toEqual([400, "wait"]);
  }
  for (const wait of ["0", "05", "30"]) expectOk(await door.ask(`/v1/jobs/${id}?wait=${wait}`));
  expect(errorOf(await door.ask("/v1/jobs?limit=1e1")).param).toBe("limit");
});

test("Cache-Control: no-cache runs a job although its answer is stored", async () => {
  const json = { service: "portrait", input: picture() };
  const run = async (headers: Record<string, string>): Promise<number> => {
    const before = door.starts();
    const answer = await door.ask("/v1/jobs", { json, headers });
    await over(door, (JSON.parse(answer.text) as JobShown).id);
    return door.starts() - before;
  };
  expect([await run({}), await run({}), await run({ "cache-control": "no-cache" })]).toEqual([1, 0, 1]);
});

test("a job can be canceled once, while it waits or while it runs", async () => {
  const key = await door.key({ limits: { concurrent: 1 } });
  const slow = picture({ steps: 100, width: 768, height: 768 });
  const running = await submitted(door, { service: "portrait", input: slow }, key);
  await begun(door, running, key);
  const waiting = await submitted(door, { service: "portrait", input: picture() }, key);
  for (const id of [waiting, running]) {
    const answer = expectOk(await door.ask(`/v1/jobs/${id}/cancel`, { method: "POST", key }));
    expect(JSON.parse(answer.text)).toMatchObject({ id, status: "canceled" });
    expect(refusalOf(await door.ask(`/v1/jobs/${id}/cancel`, { method: "POST", key }))).toBe(
      "409 conflict invalid_request_error job_finished",
    );
  }
  await delay(300);
  for (const id of [waiting, running]) expect(await show(door, id, "", key)).toMatchObject({ status: "canceled" });
});

test("another tenant's job is not found by any call", async () => {
  const id = await submitted(door, { service: "portrait", input: picture() });
  const stranger = await door.key();
  for (const [method, path] of [
    ["GET", ""],
    ["GET", "/events"],
    ["POST", "/cancel"],
  ]) {
    const answer = await door.ask(`/v1/jobs/${id}${path}`, { method: method ?? "GET", key: stranger });
    expect(refusalOf(answer)).toBe("404 not_found not_found not_found");
  }
  expect(refusalOf(await door.ask("/v1/jobs/job_nothing"))).toBe("404 not_found not_found not_found");
});

test("the list of jobs is newest first, can be filtered by status and service, and has pages", async () => {
  const key = await door.key();
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push(await submitted(door, { service: "portrait", input: picture() }, key));
  for (const id of ids) await over(door, id, key);
  const page = async (query: string) =>
    JSON.parse(expectOk(await door.ask(`/v1/jobs${query}`, { key })).text) as {
      data: JobShown[];
      next_cursor: string | null;
    };
  const first = await page("?limit=2");
  expect(first.data.map(({ id }) => id)).toEqual([ids[4], ids[3]]);
  const second = await page(`?limit=3&cursor=${first.next_cursor}`);
  expect(second.data.map(({ id }) => id)).toEqual([ids[2], ids[1], ids[0]]);
  expect(second.next_cursor).toBeNull();
  expect((await page("?status=succeeded&service=portrait")).data).toHaveLength(5);
  expect((await page("?status=queued")).data).toEqual([]);
  expect((await page("?service=cosyvoice2")).data).toEqual([]);
  expect(refusalOf(await door.ask("/v1/jobs?status=done", { key }))).toContain("invalid_field");
});

test("jobs do not count toward the waiting limit of calls, and at most jobs_waiting of them wait", async () => {
  const key = await door.key({ limits: { concurrent: 1, jobs_waiting: 3, waiting: 0 } });
  const slow = { service: "portrait", input: picture({ steps: 60, width: 512, height: 512 }) };
  const first = await submitted(door, slow, key);
  await begun(door, first, key);
  for (let i = 0; i < 3; i++) await submitted(door, { ...slow, input: { ...slow.input, seed: i } }, key);
  const refused = await door.ask("/v1/jobs", { json: slow, key });
  expect(refusalOf(refused)).toBe("429 rate_limited rate_limit_error concurrency");
  expect(Number(refused.header("retry-after"))).toBeGreaterThan(0);
  const inChinese = await door.ask("/v1/jobs", { json: slow, key, headers: { "accept-language": "zh" } });
  expect([errorOf(refused).message, errorOf(inChinese).message]).toEqual([
    "3 jobs are already waiting; the limit is 3. Try again when some have started.",
    "已有 3 个任务在等待，上限为 3 个。请在部分任务开始后重试。",
  ]);
});

test("an origin's error fails the job at once", async () => {
  const id = await submitted(door, { service: "portrait", input: { prompt: 7, width: 32, height: 32, seed: 1 } });
  const job = await over(door, id);
  expect(job.status).toBe("failed");
  expect(job.attempts).toBe(1);
  expect(job.error).toMatchObject({ reason: "origin_status", started: "yes" });
});

test("jobs start by priority, then by arrival", async () => {
  const key = await door.key({ limits: { concurrent: 1 } });
  const slow = picture({ steps: 30, width: 512, height: 512 });
  const job = (priority: string, seed: number) => ({ service: "portrait", priority, input: { ...slow, seed } });
  const first = await submitted(door, job("normal", 1), key);
  await begun(door, first, key);
  const low = await submitted(door, job("low", 2), key);
  const normal = await submitted(door, job("normal", 3), key);
  const high = await submitted(door, job("high", 4), key);
  const waiting = await show(door, normal, "", key);
  expect(waiting).toMatchObject({ status: "queued", waiting_on: "tenant_cap" });
  expect(waiting.queue_position).toBeGreaterThanOrEqual(1);
  const done = await Promise.all([low, normal, high].map((id) => over(door, id, key)));
  const [l, n, h] = done.map(({ started_at }) => Date.parse(started_at ?? ""));
  expect(h).toBeLessThan(n ?? 0);
  expect(n).toBeLessThan(l ?? 0);
});

test("a request that became a job is reported with the job's state and results", async () => {
  const key = await door.key({ limits: { concurrent: 1 } });
  const became = async (id: string) =>
    JSON.parse(expectOk(await door.ask(`/v1/requests/${id}`, { key })).text) as { state: string; results: unknown[] };
  const slow = picture({ steps: 60, width: 512, height: 512 });
  const headers = { prefer: "respond-async", "x-request-id": "as-a-job" };
  const answer = await door.paint(slow, { headers, key });
  const { id } = JSON.parse(answer.text) as JobShown;
  await begun(door, id, key);
  for (const name of [id, "as-a-job"]) expect(await became(name)).toMatchObject({ state: "running", results: [] });
  const { results } = await over(door, id, key);
  for (const name of [id, "as-a-job"]) {
    const told = await became(name);
    expect(told).toMatchObject({ state: "succeeded", status: 200 });
    expect(told.results).toHaveLength(results.length);
  }
});

test("deleting a tenant starts none of its waiting jobs", async () => {
  const tenant = await door.tenant({ concurrent: 1 });
  const key = await door.key({ tenant });
  const slow = { service: "portrait", input: picture({ steps: 100, width: 768, height: 768 }) };
  const running = await submitted(door, slow, key);
  await begun(door, running, key);
  for (let i = 0; i < 3; i++) await submitted(door, { ...slow, input: { ...slow.input, seed: i } }, key);
  const before = door.starts();
  await door.portico.admin("DELETE", `/tenants/${tenant}`);
  await delay(2_000);
  expect(door.starts()).toBe(before);
});

test("a batch over 8 MiB is refused with a hint at what accepts its inputs", async () => {
  const json = { jobs: [{ service: "portrait", input: picture({ comments: "x".repeat(9 * 1024 * 1024) }) }] };
  const english = await door.ask("/v1/batches", { json });
  expect(refusalOf(english)).toBe("413 body_too_large invalid_request_error body_too_large");
  expect(errorOf(english).message).toBe(
    "The body is larger than 8 MiB, the limit of a batch. Send smaller batches, and large inputs as jobs of their own (POST /v1/jobs).",
  );
  const chinese = await door.ask("/v1/batches", { json, headers: { "accept-language": "zh" } });
  expect(errorOf(chinese).message).toContain("8 MiB（批次的上限）");
});
