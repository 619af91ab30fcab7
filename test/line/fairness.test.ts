import { expect, test } from "vitest";
import { type Caller, eventually, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const SLOTS = 4;
const line = openLine({ park: { servers: 1, gpus: 2 } });

interface Crowd {
  name: string;
  callers: Caller[];
}

/** Lets all requests wait behind other runs, then frees the cards. Returns the names in order of their starts. */
async function order(service: Service, asked: { name: string; count: number; key: string }[]): Promise<string[]> {
  line.park.setService({ service_ms: 60 });
  const letGo = await line.takeAll();
  const crowds: Crowd[] = [];
  let waiting = 0;
  for (const { name, count, key } of asked) {
    crowds.push({ name, callers: await line.calls(count, { service, key }) });
    waiting += count;
    await eventually(`${waiting} wait`, async () => (await line.queued(service)) === waiting);
  }
  letGo();
  const answers = await Promise.all(crowds.flatMap(({ callers }) => callers.map((caller) => caller.answered)));
  expect(tally(answers)).toEqual({ 200: answers.length });
  const nameOf = new Map(crowds.flatMap(({ name, callers }) => callers.map(({ prompt }) => [prompt, name] as const)));
  return line.park
    .runs()
    .map(({ prompt }) => nameOf.get(prompt ?? ""))
    .filter((name) => name !== undefined);
}

const count = (names: string[], name: string) => names.filter((other) => other === name).length;

async function weighted(weight: number): Promise<string> {
  const limits = { requests_per_minute: 1_000_000, burst: 1_000_000, concurrent: 1_000, waiting: 10_000 };
  const { id } = await line.portico.admin<{ id: string }>("POST", "/tenants", {
    name: `weight ${weight}`,
    limits,
    weight,
  });
  return line.portico.key({ tenant: id });
}

test("how long a tenant waits depends on how many tenants ask, not on how many requests each sends", async () => {
  const service = await line.service();
  const names = await order(service, [
    { name: "much", count: 60, key: await line.key() },
    { name: "little", count: 3, key: await line.key() },
  ]);
  // In turns, the last of three comes sixth; the limit is twice that, plus the slots that fill at once.
  expect(names.lastIndexOf("little")).toBeLessThan(2 * 6 + SLOTS);
});

test("four tenants with lines of different lengths get equal numbers of turns", async () => {
  const service = await line.service();
  const counts = { a: 40, b: 20, c: 10, d: 10 };
  const asked = await Promise.all(
    Object.entries(counts).map(async ([name, of]) => ({ name, count: of, key: await line.key() })),
  );
  const names = await order(service, asked);
  const firstForty = names.slice(0, 40);
  for (const name of Object.keys(counts)) {
    expect(Math.abs(count(firstForty, name) - 10), `${name}: ${firstForty.join("")}`).toBeLessThanOrEqual(2);
  }
});

test("a tenant of twice the weight gets twice the turns", async () => {
  const service = await line.service();
  const names = await order(service, [
    { name: "light", count: 30, key: await weighted(1) },
    { name: "heavy", count: 30, key: await weighted(2) },
  ]);
  const first = names.slice(0, 30);
  expect(Math.abs(count(first, "heavy") - 20), first.join(" ")).toBeLessThanOrEqual(2);
});

test("a tenant at its cap leaves its turns to the others and still gets all its answers", async () => {
  const service = await line.service();
  const names = await order(service, [
    { name: "capped", count: 10, key: await line.key({ limits: { concurrent: 1 } }) },
    { name: "free", count: 20, key: await line.key() },
  ]);
  expect(count(names.slice(0, 12), "capped")).toBeLessThanOrEqual(6);
  expect(names).toHaveLength(30);
});
