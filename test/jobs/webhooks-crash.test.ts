/** Webhooks and kills of the runtime: a pending webhook is sent after the restart, under the same id. */
import { expect, test } from "vitest";
import { doorway } from "../contract/doorway.ts";
import { calledBack, deliveries, deliveryOf, headerOf, heard, receiver, secretOf, verified } from "./receiver.ts";
import { over } from "./shown.ts";

const door = doorway({ child: true });
/** A restart, plus the alarm that finds the interrupted delivery. */
const AFTER_MS_MAX = 30_000;

test("a delivery interrupted by kill -9 is sent again after the restart, under the same id", async () => {
  const there = await receiver(() => undefined);
  const id = await calledBack(door, there.url);
  await heard(there, 1);
  const secret = await secretOf(door);
  await door.portico.kill9();
  there.answering = (res) => void res.end();
  await door.portico.restart();
  const [cut, whole] = await heard(there, 2, AFTER_MS_MAX);
  if (cut === undefined || whole === undefined) throw new Error("nothing came");
  expect(headerOf(whole, "webhook-id")).toBe(headerOf(cut, "webhook-id"));
  expect(verified(whole, secret).data).toMatchObject({ id, status: "succeeded" });
  const { attempts } = await deliveryOf(door, id, (each) => each.status === "delivered");
  expect(attempts).toMatchObject([{ number: 1, status: 200 }]);
  expect((await deliveries(door)).filter(({ job }) => job === id)).toHaveLength(1);
}, 90_000);

test("after kill -9 at the end of a job its webhook is still delivered, under one id", async () => {
  const there = await receiver();
  const id = await calledBack(door, there.url);
  await over(door, id);
  await door.portico.kill9();
  await door.portico.restart();
  await deliveryOf(door, id, (each) => each.status === "delivered", AFTER_MS_MAX);
  expect(new Set(there.seen.map((seen) => headerOf(seen, "webhook-id"))).size).toBe(1);
  expect((await deliveries(door)).filter(({ job }) => job === id)).toHaveLength(1);
}, 90_000);
