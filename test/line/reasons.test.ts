import { expect, test } from "vitest";
import { eventually } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine();

interface Became {
  state: string;
  waiting_on: string | null;
  queue_position: number | null;
}

/** What a service reports its requests are waiting for. */
async function waitingOn(service: Service): Promise<Record<string, number>> {
  const { live } = await line.portico.admin<{ live: { waiting_on: Record<string, number> } }>(
    "GET",
    `/services/${service.id}`,
  );
  return live.waiting_on;
}

async function became(id: string, key: string): Promise<Became> {
  const answer = await fetch(`${line.portico.url}/v1/requests/${id}`, { headers: { authorization: `Bearer ${key}` } });
  const told: Became = JSON.parse(await answer.text());
  return told;
}

test("a service and a request report the same reason for waiting", async () => {
  const service = await line.service();
  const [capped, free] = [await line.key({ limits: { concurrent: 1 } }), await line.key()];
  line.park.setService({ service_ms: 4_000 });
  const running = await line.call({ service, key: capped });
  await line.running([running]);
  const second = await line.call({ service, key: capped, headers: { "x-request-id": "second" } });
  await eventually("it waits for its own tenant", async () => (await waitingOn(service))["tenant_cap"] === 1);
  expect(await became("second", capped)).toMatchObject({
    state: "queued",
    waiting_on: "tenant_cap",
    queue_position: 1,
  });
  const others = await line.calls(11, { service, key: free });
  await line.running(others);
  const late = await line.call({ service, key: free, headers: { "x-request-id": "late" } });
  await eventually("it waits for a slot", async () => (await waitingOn(service))["slots_busy"] === 1);
  expect(await became("late", free)).toMatchObject({ state: "queued", waiting_on: "slots_busy" });
  await line.portico.admin("POST", `/services/${service.id}/pause`);
  expect(await waitingOn(service)).toEqual({ paused: 2 });
  expect(await became("late", free)).toMatchObject({ state: "queued", waiting_on: "paused" });
  await line.portico.admin("POST", `/services/${service.id}/resume`);
  const answers = await Promise.all([running, second, late, ...others].map((caller) => caller.answered));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(await became("late", free)).toMatchObject({ state: "succeeded", waiting_on: null, queue_position: null });
});
