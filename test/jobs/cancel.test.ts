/** Canceling a running job: its card is told to stop only if that interrupts no other run. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { doorway, picture } from "../contract/doorway.ts";
import { listOrigin, Origin } from "../contract/origin.ts";
import { begun, over, submitted } from "./shown.ts";

const door = doorway();
const SOON_MS_MAX = 15_000;
let origin: Origin;
let services = 0;

beforeEach(async () => {
  origin = await Origin.open();
  origin.answering = (res, { target }) => {
    if (target.endsWith("img")) return;
    res.writeHead(200, { "content-type": "application/json" }).end('{"active":true,"progress":0.5}');
  };
});
afterEach(() => origin.close());

/** Creates a service on one card of two slots, and starts a job in it. */
async function running(kind: "image" | "http"): Promise<{ service: string; path: string; job: string }> {
  const service = `stop-${++services}`;
  const path = `/${service}/sdapi/v1/txt2img`;
  await listOrigin(door, origin, service, { kind, route: `/${service}/sdapi/v1/` });
  const job = await submitted(door, { service, path: "txt2img", input: picture() });
  await begun(door, job);
  return { service, path, job };
}

const calls = (end: string): number => origin.seen.filter(({ target }) => target.endsWith(end)).length;
const runs = (count: number) => vi.waitFor(() => expect(calls("img")).toBe(count), SOON_MS_MAX);

test("canceling a job that runs alone on its card interrupts the origin", async () => {
  const { job } = await running("image");
  await runs(1);
  await door.ask(`/v1/jobs/${job}/cancel`, { method: "POST" });
  await vi.waitFor(() => expect(calls("/interrupt")).toBe(1), SOON_MS_MAX);
});

test("canceling a job beside another run on the same card interrupts nothing", async () => {
  const { path, job } = await running("image");
  const beside = door.ask(path, { json: picture(), headers: { "x-timeout-s": "5" } });
  await runs(2);
  await door.ask(`/v1/jobs/${job}/cancel`, { method: "POST" });
  expect((await over(door, job)).status).toBe("canceled");
  await beside;
  expect(calls("/interrupt")).toBe(0);
});

test("an origin that is not a WebUI gets no progress or interrupt calls, whatever its paths are called", async () => {
  const { job } = await running("http");
  await runs(1);
  await door.ask(`/v1/jobs/${job}/cancel`, { method: "POST" });
  expect((await over(door, job)).status).toBe("canceled");
  expect(origin.seen.length).toBe(calls("img"));
});

test("a waiting job whose service is deleted fails and costs nothing", { timeout: 60_000 }, async () => {
  const { service } = await running("image");
  await door.portico.admin("POST", `/services/${service}/pause`);
  const waiting = await submitted(door, { service, path: "txt2img", input: picture() });
  await door.portico.admin("DELETE", `/services/${service}`);
  expect(await over(door, waiting)).toMatchObject({ status: "failed", cost: 0, error: { reason: "not_found" } });
});
