/** Webhooks of the Replicate dialect, verified by the official client. */
import { setTimeout as delay } from "node:timers/promises";
import { type Prediction, validateWebhook } from "replicate";
import { expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import type { Seen } from "../contract/origin.ts";
import { headerOf, heard, receiver } from "../jobs/receiver.ts";
import { over, show } from "../jobs/shown.ts";
import { refused, replicate, SLOW, SMALL } from "./replicate-client.ts";

const door = doorway({ speed: 1 });

type Filter = ("start" | "output" | "logs" | "completed")[];

const isValid = (seen: Seen, secret: string): Promise<boolean> =>
  validateWebhook({
    id: headerOf(seen, "webhook-id"),
    timestamp: headerOf(seen, "webhook-timestamp"),
    signature: headerOf(seen, "webhook-signature"),
    body: seen.body.toString(),
    secret,
  });
const toldBy = ({ body }: Seen) => JSON.parse(body.toString()) as Prediction;

test("start and end are delivered as predictions that validateWebhook accepts", async () => {
  const client = replicate(door);
  const there = await receiver();
  const webhook = `${there.url}/hook?a=b`;
  const { id } = await client.predictions.create({ model: "portico/portrait", input: SLOW, webhook });
  const seen = await heard(there, 2);
  const { key } = await client.webhooks.default.secret.get();
  for (const each of seen) {
    expect(each.target).toBe("/hook?a=b");
    expect(await isValid(each, key)).toBe(true);
    expect(await isValid({ ...each, body: Buffer.from(`${each.body.toString()} `) }, key)).toBe(false);
  }
  const [first, last] = seen.map(toldBy);
  expect(first).toMatchObject({ id, status: "processing", output: null, completed_at: null, input: SLOW });
  expect(last).toMatchObject({ id, status: "succeeded", output: [expect.stringMatching(/\/v1\/results\//)] });
  const own = await client.predictions.get(id);
  expect(last?.metrics).toEqual(own.metrics);
  await delay(300);
  expect(there.seen).toHaveLength(2);
});

test.each<[Filter, string[]]>([
  [["completed"], ["succeeded"]],
  [["output"], ["succeeded"]],
  [
    ["logs", "start"],
    ["processing", "succeeded"],
  ],
  [["start"], ["processing"]],
])("webhook_events_filter %j delivers %j", async (webhook_events_filter, statuses) => {
  const there = await receiver();
  const { id } = await replicate(door).predictions.create({
    model: "portico/portrait",
    input: SMALL,
    webhook: there.url,
    webhook_events_filter,
  });
  await over(door, id);
  const seen = await heard(there, statuses.length);
  await delay(300);
  expect(seen.map((each) => toldBy(each).status).toSorted()).toEqual(statuses);
});

test("a prediction canceled before it starts gets no start webhook", async () => {
  const client = replicate(door, { auth: await door.key({ limits: { concurrent: 1 } }) });
  const there = await receiver();
  const first = await client.predictions.create({ model: "portico/portrait", input: { ...SLOW, steps: 150 } });
  const { id } = await client.predictions.create({ model: "portico/portrait", input: SLOW, webhook: there.url });
  await client.predictions.cancel(id);
  await client.predictions.cancel(first.id);
  const [seen] = await heard(there, 1);
  if (seen === undefined) throw new Error("nothing came");
  expect(toldBy(seen)).toMatchObject({ id, status: "canceled", started_at: null, output: null });
});

test("a webhook URL that may not be called is refused with its field", async () => {
  const client = replicate(door);
  for (const webhook of ["http://example.com/", "https://10.0.0.1/", "https://a:b@example.com/"]) {
    const call = client.predictions.create({ model: "portico/portrait", input: SMALL, webhook });
    expect((await refused(call)).problem.invalid_fields?.[0]?.field).toBe("webhook");
  }
});

test("a native job gets only the native webhook", async () => {
  const there = await receiver();
  const json = { service: "portrait", input: SMALL, webhook: { url: there.url } };
  const answer = await door.ask("/v1/jobs", { json });
  const { id } = JSON.parse(answer.text) as { id: string };
  await over(door, id);
  const [seen] = await heard(there, 1);
  expect(JSON.parse(seen?.body.toString() ?? "")).toMatchObject({ type: "job.succeeded", data: { id } });
  expect(await show(door, id)).toMatchObject({ status: "succeeded" });
  await delay(300);
  expect(there.seen).toHaveLength(1);
});
