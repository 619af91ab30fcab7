/** A job's events, as a client of server-sent events receives them. */
import { expect, test } from "vitest";
import { sleep } from "../line/caller.ts";
import { doorway, expectOk, picture } from "../contract/doorway.ts";
import { begun, over, submitted } from "./shown.ts";

const door = doorway({ speed: 1 });

interface Event {
  id: number;
  event: string;
  data: Record<string, unknown>;
}

function eventsOf(text: string): Event[] {
  return text
    .split("\n\n")
    .map((block) => Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))))
    .filter((fields): fields is Record<string, string> => fields["event"] !== undefined)
    .map(({ id, event = "", data = "" }) => ({ id: Number(id), event, data: JSON.parse(data) as Event["data"] }));
}

test("every event has an id, and the last one contains the job", async () => {
  const key = await door.key({ limits: { concurrent: 1 } });
  const slow = { service: "portrait", input: picture({ steps: 40, width: 512, height: 512 }) };
  const first = await submitted(door, slow, key);
  await begun(door, first, key);
  const id = await submitted(door, { ...slow, input: { ...slow.input, seed: 2 } }, key);
  const answer = expectOk(await door.ask(`/v1/jobs/${id}/events`, { key }));
  expect(answer.header("content-type")).toMatch(/^text\/event-stream/);
  const events = eventsOf(answer.text);
  const ids = events.map((event) => event.id);
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  expect(new Set(ids).size).toBe(ids.length);
  const kinds = new Set(events.map(({ event }) => event));
  expect([...kinds].toSorted()).toEqual(["done", "position", "progress", "state"]);
  expect(events.filter(({ event }) => event === "state").map(({ data }) => data["status"])).toEqual([
    "queued",
    "running",
    "succeeded",
  ]);
  const progress = events.filter(({ event }) => event === "progress").map(({ data }) => Number(data["progress"]));
  expect(progress).toEqual(progress.toSorted((a, b) => a - b));
  for (const value of progress) expect(value).toBeGreaterThan(0);
  expect(events.at(-1)).toMatchObject({ event: "done", data: { id, status: "succeeded" } });
  expect(events.at(-1)?.data["results"]).toHaveLength(1);

  // A client that reconnects gets each later event once.
  const middle = ids[1] ?? 0;
  const again = expectOk(
    await door.ask(`/v1/jobs/${id}/events`, { key, headers: { "last-event-id": String(middle) } }),
  );
  expect(eventsOf(again.text).map((event) => event.id)).toEqual(ids.filter((each) => each > middle));
  // An unknown id restarts the stream; after the last event there is nothing left to send.
  const after = (last: number) =>
    door.ask(`/v1/jobs/${id}/events`, { key, headers: { "last-event-id": String(last) } });
  expect(eventsOf((await after(99_999)).text).map((event) => event.id)).toEqual(ids);
  expect((await after(ids.at(-1) ?? 0)).status).toBe(204);
  await over(door, first, key);
});

/** Repeats a long poll until the answer is an error; returns its status. */
async function lastHeld(path: string, key: string): Promise<number> {
  for (let left = 10; left > 0; left--) {
    const { status } = await door.ask(path, { key });
    if (status >= 400) return status;
  }
  return 0;
}

test("a revoked key stops every way of following a job within ten seconds", { timeout: 40_000 }, async () => {
  const tenant = await door.tenant();
  const { id: keyId, key } = await door.portico.admin<{ id: string; key: string }>(
    "POST",
    `/tenants/${tenant}/keys`,
    {},
  );
  await door.portico.admin("POST", "/services/portrait/pause");
  try {
    const id = await submitted(door, { service: "portrait", input: picture({ seed: 72 }) }, key);
    const status = `/fal/queue/portico/portrait/requests/${id}/status`;
    await sleep(500);
    const from = performance.now();
    const streams = ["/v1/jobs/", "/replicate/v1/predictions/"]
      .map((path) => `${path}${id}/${path.includes("v1/jobs") ? "events" : "stream"}`)
      .concat(`${status}/stream`)
      .map((path) => door.ask(path, { key }));
    const held = [`/v1/jobs/${id}?wait=30`, status].map((path) => lastHeld(path, key));
    await door.portico.admin("DELETE", `/keys/${keyId}`);
    for (const stream of await Promise.all(streams)) {
      // Cut, so that no client takes it for the end of the job.
      expect([stream.status, stream.whole]).toEqual([200, false]);
      expect(stream.text).not.toMatch(/done|COMPLETED/);
    }
    expect(await Promise.all(held)).toEqual([401, 401]);
    expect(performance.now() - from).toBeLessThan(11_000);
  } finally {
    await door.portico.admin("POST", "/services/portrait/resume");
  }
});
