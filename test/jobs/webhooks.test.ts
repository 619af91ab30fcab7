/** Webhooks over HTTP: what a receiver gets, and what happens if the receiver misbehaves. */
import { createServer } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { doorway, expectOk, picture, refusalOf, targetOf } from "../contract/doorway.ts";
import { freePort } from "../support/local.ts";
import { calledBack, deliveries, deliveryOf, headerOf, heard, receiver, replay } from "./receiver.ts";
import { secretOf, status, verified } from "./receiver.ts";
import { begun, over, show, submitted } from "./shown.ts";

const door = doorway({ speed: 1 });
const OWN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ROTATE = { method: "POST" };

test("the end of a job is sent, signed according to Standard Webhooks, with the job as the API shows it", async () => {
  const there = await receiver();
  const id = await calledBack(door, `${there.url}/hook//x%2Fy?token=a`);
  const [seen] = await heard(there, 1);
  if (seen === undefined) throw new Error("nothing came");
  expect(seen).toMatchObject({ method: "POST", target: "/hook//x%2Fy?token=a" });
  expect(headerOf(seen, "content-type")).toBe("application/json");
  expect(headerOf(seen, "authorization")).toBe("");
  const { type, timestamp, data } = verified(seen, await secretOf(door));
  const job = await show(door, id);
  expect(type).toBe("job.succeeded");
  expect(timestamp).toBe(job.finished_at);
  const plain = (shown: typeof job) => ({ ...shown, results: shown.results.map(({ url: _url, ...rest }) => rest) });
  expect(plain(data)).toEqual(plain(job));
  const png = expectOk(await door.ask(targetOf(data.results[0]?.url ?? ""), { key: null }));
  expect(png.body.byteLength).toBe(data.results[0]?.bytes);
  const delivery = await deliveryOf(door, id, (each) => each.status === "delivered");
  expect(delivery).toMatchObject({ event: headerOf(seen, "webhook-id"), type, next_attempt_at: null });
  expect(delivery.attempts).toMatchObject([{ number: 1, status: 200, error: null }]);
  await delay(500);
  expect(there.seen).toHaveLength(1);
});

test("failed and canceled jobs send a webhook too", async () => {
  const there = await receiver();
  const webhook = { url: there.url };
  const failed = await submitted(door, { service: "portrait", input: { prompt: 7, width: 32, height: 32 }, webhook });
  const slow = picture({ steps: 100, width: 768, height: 768 });
  const canceled = await submitted(door, { service: "portrait", input: slow, webhook });
  await begun(door, canceled);
  await door.ask(`/v1/jobs/${canceled}/cancel`, { method: "POST" });
  const secret = await secretOf(door);
  const told = (await heard(there, 2)).map((seen) => verified(seen, secret));
  expect(Object.fromEntries(told.map(({ type, data }) => [data.id, type]))).toEqual({
    [failed]: "job.failed",
    [canceled]: "job.canceled",
  });
});

test("a secret submitted with a job signs its webhook and is never shown", async () => {
  const there = await receiver();
  const id = await calledBack(door, there.url, door.ownKey, OWN_SECRET);
  const [seen] = await heard(there, 1);
  if (seen === undefined) throw new Error("nothing came");
  expect(verified(seen, OWN_SECRET).data.id).toBe(id);
  const tenants = await secretOf(door);
  expect(() => verified(seen, tenants)).toThrow("No matching signature");
  const pages = [seen.body.toString(), JSON.stringify(await show(door, id)), JSON.stringify(await deliveries(door))];
  for (const page of pages) expect(page).not.toContain(OWN_SECRET.slice(6));
});

test("after a rotation both the new and the previous secret sign, and each verifies alone", async () => {
  const key = await door.key();
  const [before, other] = [await secretOf(door, key), await secretOf(door)];
  expect(before).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(other).not.toBe(before);
  const answer = expectOk(await door.ask("/v1/webhooks/secret/rotate", { ...ROTATE, key }));
  const now = await secretOf(door, key);
  expect(JSON.parse(answer.text)).toEqual({ key: now });
  expect(now).not.toBe(before);
  expect(await secretOf(door)).toBe(other);
  const there = await receiver();
  const id = await calledBack(door, there.url, key);
  const [seen] = await heard(there, 1);
  if (seen === undefined) throw new Error("nothing came");
  expect(headerOf(seen, "webhook-signature").split(" ")).toHaveLength(2);
  for (const secret of [before, now]) expect(verified(seen, secret).data.id).toBe(id);
  expect(() => verified(seen, other)).toThrow("No matching signature");
});

test("a rotation repeated with its Idempotency-Key gives the same secret and does not rotate again", async () => {
  const key = await door.key();
  const rotate = async (name: string) => {
    const headers = { "idempotency-key": name };
    const answer = expectOk(await door.ask("/v1/webhooks/secret/rotate", { ...ROTATE, key, headers }));
    return [(JSON.parse(answer.text) as { key: string }).key, answer.header("idempotent-replayed")];
  };
  const [first] = await rotate("one");
  expect(await rotate("one")).toEqual([first, "true"]);
  expect(await secretOf(door, key)).toBe(first);
  const [second, replayed] = await rotate("two");
  expect([second === first, replayed]).toEqual([false, null]);
  // Even after another rotation the repeated call returns the answer of the first one, not the latest secret.
  expect(await rotate("one")).toEqual([first, "true"]);
  expect(await secretOf(door, key)).toBe(second);
});

test("a failed delivery is retried after about 5 s, under the same id, with new URLs and a new timestamp", async () => {
  const there = await receiver();
  const answers = [status(500), status(204)];
  there.answering = (res, seen) => answers.shift()?.(res, seen);
  const id = await calledBack(door, there.url);
  await over(door, id);
  const [first, second] = await heard(there, 2);
  if (first === undefined || second === undefined) throw new Error("nothing came");
  const secret = await secretOf(door);
  expect(headerOf(second, "webhook-id")).toBe(headerOf(first, "webhook-id"));
  expect(verified(second, secret).data.id).toBe(id);
  expect(Number(headerOf(second, "webhook-timestamp"))).toBeGreaterThan(Number(headerOf(first, "webhook-timestamp")));
  const [old, fresh] = [first, second].map((seen) => verified(seen, secret).data.results[0]?.url);
  expect(fresh).not.toBe(old);
  const { attempts } = await deliveryOf(door, id, (each) => each.status === "delivered");
  expect(attempts.map((each) => each.status)).toEqual([500, 204]);
  const [a = 0, b = 0] = attempts.map(({ at }) => Date.parse(at));
  expect(b - a).toBeGreaterThan(4_000);
  expect(b - a).toBeLessThan(7_500);
});

test("a redirect is not followed and is retried later", async () => {
  const inside = await receiver();
  const there = await receiver(status(302, { location: `${inside.url}/secret` }));
  const id = await calledBack(door, there.url);
  const delivery = await deliveryOf(door, id, ({ attempts }) => attempts.length === 1);
  expect(delivery).toMatchObject({ status: "pending", attempts: [{ status: 302, error: "it redirects" }] });
  expect(inside.seen).toHaveLength(0);
});

test("a 304 does not confirm a delivery, and is not treated as a redirect", async () => {
  const there = await receiver(status(304));
  const id = await calledBack(door, there.url);
  const delivery = await deliveryOf(door, id, ({ attempts }) => attempts.length === 1);
  const error = "304 is the answer to a conditional request, which this is not";
  expect(delivery).toMatchObject({ status: "pending", attempts: [{ status: 304, error }] });
});

test("a replay repeated with its Idempotency-Key is one delivery", async () => {
  const there = await receiver();
  const id = await calledBack(door, there.url);
  const first = await deliveryOf(door, id, (each) => each.status === "delivered");
  const path = `/v1/webhooks/deliveries/${first.id}/replay`;
  const again = async (name: string): Promise<[id: string, replayed: string | null]> => {
    const answer = await door.ask(path, { method: "POST", headers: { "idempotency-key": name } });
    expect(answer.status, answer.text).toBe(202);
    return [(JSON.parse(answer.text) as { id: string }).id, answer.header("idempotent-replayed")];
  };
  const [made, replayed] = await again("a replay");
  expect([made === first.id, replayed]).toEqual([false, null]);
  await heard(there, 2);
  expect(await again("a replay")).toEqual([made, "true"]);
  expect((await again("another replay"))[0]).not.toBe(made);
  await heard(there, 3);
});

test("a 410 disables the address for the tenant until a replay is delivered", async () => {
  const key = await door.key();
  const there = await receiver(status(410));
  const first = await calledBack(door, there.url, key);
  await deliveryOf(door, first, (each) => each.status === "disabled", 15_000, key);
  const second = await calledBack(door, there.url, key);
  const never = await deliveryOf(door, second, (each) => each.status === "disabled", 15_000, key);
  expect(never.attempts).toEqual([]);
  // The answer of one tenant's receiver does not affect another tenant.
  await calledBack(door, there.url);
  await heard(there, 2);
  there.answering = status(200);
  await replay(door, never.id, key);
  await deliveryOf(door, second, (each) => each.status === "delivered", 15_000, key);
  const third = await calledBack(door, there.url, key);
  await deliveryOf(door, third, (each) => each.status === "delivered", 15_000, key);
});

test("the next attempt waits for the receiver's Retry-After, within bounds", async () => {
  const key = await door.key();
  const patient = await receiver(status(503, { "retry-after": "60" }));
  const greedy = await receiver(status(429, { "retry-after": "99999999" }));
  const waits: number[] = [];
  for (const { url } of [patient, greedy]) {
    const id = await calledBack(door, url, key);
    const { attempts, next_attempt_at } = await deliveryOf(door, id, (each) => each.attempts.length === 1, 15_000, key);
    waits.push((Date.parse(next_attempt_at ?? "") - Date.parse(attempts[0]?.at ?? "")) / 1000);
  }
  expect(waits.map(Math.round)).toEqual([60, 3600]);
});

test("a hanging receiver delays no job and no other receiver, and its attempt ends after 20 s", async () => {
  const key = await door.key();
  const hanging = await receiver(() => undefined);
  const there = await receiver();
  const stuck = await calledBack(door, hanging.url, key);
  await heard(hanging, 1);
  const from = Date.now();
  const id = await calledBack(door, there.url, key);
  await over(door, id, key);
  await heard(there, 1);
  expect(Date.now() - from).toBeLessThan(5_000);
  const { attempts } = await deliveryOf(door, stuck, (each) => each.attempts.length === 1, 30_000, key);
  expect(attempts).toMatchObject([{ status: null, error: "no answer within 20 s" }]);
  expect(attempts[0]?.ms).toBeLessThan(22_000);
}, 60_000);

test("a closed connection is a failed attempt, and an endless 200 answer is a delivery", async () => {
  const closing = await receiver((res) => void res.socket?.destroy());
  const endless = await receiver((res) => {
    const timer = setInterval(() => res.write("x".repeat(65_536)), 1);
    res.on("close", () => clearInterval(timer));
  });
  const [closed, taken] = [await calledBack(door, closing.url), await calledBack(door, endless.url)];
  const first = await deliveryOf(door, closed, ({ attempts }) => attempts.length === 1);
  expect(first.attempts).toMatchObject([{ status: null, error: "the connection failed or was lost" }]);
  await deliveryOf(door, taken, (each) => each.status === "delivered");
});

test("a delivery to an unreachable receiver succeeds once the receiver is there", async () => {
  const port = await freePort();
  const id = await calledBack(door, `http://127.0.0.1:${port}/`);
  const { status: before, attempts } = await deliveryOf(door, id, (each) => each.attempts.length === 1);
  expect([before, attempts[0]?.error]).toEqual(["pending", "the connection failed or was lost"]);
  const later = createServer((_, res) => void res.end());
  onTestFinished(() => void later.close());
  await new Promise<void>((resolve) => void later.listen(port, "127.0.0.1", resolve));
  expect((await deliveryOf(door, id, (each) => each.status === "delivered")).attempts).toHaveLength(2);
});

test("a replay of a finished delivery is a new delivery of its event; a pending delivery is sent at once", async () => {
  const there = await receiver();
  const id = await calledBack(door, there.url);
  const first = await deliveryOf(door, id, (each) => each.status === "delivered");
  const again = await replay(door, first.id);
  expect(again).toMatchObject({ event: first.event, job: id, url: first.url, status: "pending", attempts: [] });
  expect(again.id).not.toBe(first.id);
  const [a, b] = await heard(there, 2);
  if (a === undefined || b === undefined) throw new Error("nothing came");
  expect(headerOf(b, "webhook-id")).toBe(headerOf(a, "webhook-id"));
  const shown = expectOk(await door.ask(`/v1/webhooks/deliveries/${again.id}`));
  expect(JSON.parse(shown.text)).toMatchObject({ id: again.id });

  there.answering = status(500);
  const late = await calledBack(door, there.url);
  const pending = await deliveryOf(door, late, ({ attempts }) => attempts.length === 1);
  there.answering = status(200);
  expect((await replay(door, pending.id)).id).toBe(pending.id);
  await deliveryOf(door, late, (each) => each.status === "delivered", 3_000);
});

test("deliveries are listed newest first, can be filtered by status and have pages", async () => {
  const key = await door.key();
  const there = await receiver();
  const ids: string[] = [];
  for (let i = 0; i < 3; i++) {
    const id = await calledBack(door, there.url, key);
    await deliveryOf(door, id, (each) => each.status === "delivered", 15_000, key);
    ids.push(id);
  }
  const page = async (query: string) =>
    JSON.parse(expectOk(await door.ask(`/v1/webhooks/deliveries${query}`, { key })).text) as {
      data: { job: string }[];
      next_cursor: string | null;
    };
  const first = await page("?limit=2");
  expect(first.data.map(({ job }) => job)).toEqual([ids[2], ids[1]]);
  const second = await page(`?limit=2&cursor=${first.next_cursor}`);
  expect(second).toMatchObject({ data: [{ job: ids[0] }], next_cursor: null });
  expect((await page("?status=delivered")).data).toHaveLength(3);
  expect((await page("?status=failed")).data).toEqual([]);
  for (const query of ["?status=lost", "?limit=0", "?cursor=x"])
    expect(refusalOf(await door.ask(`/v1/webhooks/deliveries${query}`, { key }))).toBe(
      "400 invalid_request invalid_request_error invalid_field",
    );
});

test("another tenant's deliveries are not found, and a key without the scope cannot see any", async () => {
  const there = await receiver();
  const id = await calledBack(door, there.url);
  const { id: delivery } = await deliveryOf(door, id, (each) => each.status === "delivered");
  const stranger = await door.key();
  const path = `/v1/webhooks/deliveries/${delivery}`;
  const absent = "404 not_found not_found not_found";
  expect(refusalOf(await door.ask(path, { key: stranger }))).toBe(absent);
  expect(refusalOf(await door.ask(`${path}/replay`, { method: "POST", key: stranger }))).toBe(absent);
  expect(refusalOf(await door.ask("/v1/webhooks/deliveries/dlv_nothing"))).toBe(absent);
  expect(await deliveries(door, "", stranger)).toEqual([]);
  const narrow = await door.key({ scopes: ["infer"] });
  for (const [method, tail] of [
    ["GET", "secret"],
    ["POST", "secret/rotate"],
    ["GET", "deliveries"],
    ["GET", `deliveries/${delivery}`],
    ["POST", `deliveries/${delivery}/replay`],
  ] as const)
    expect(refusalOf(await door.ask(`/v1/webhooks/${tail}`, { method, key: narrow }))).toBe(
      "403 forbidden permission_error scope",
    );
});

test("the end of a batch is sent once, signed with the batch's secret", async () => {
  const origin = await receiver();
  const secret = `whsec_${Buffer.alloc(64, 7).toString("base64")}`;
  const ours = [1, 2, 3].map((seed) => ({ service: "portrait", input: picture({ seed }) }));
  const made = await door.ask("/v1/batches", {
    json: { jobs: ours, webhook: { url: origin.url, secret } },
  });
  expect(made.status, made.text).toBe(202);
  const { id, jobs } = JSON.parse(made.text) as { id: string; jobs: string[] };
  const [seen] = await heard(origin, 1);
  if (seen === undefined) throw new Error("nothing was heard");
  expect(verified(seen, secret)).toMatchObject({
    type: "batch.finished",
    data: { id, jobs, counts: { succeeded: 3 } },
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(origin.seen).toHaveLength(1);
});
