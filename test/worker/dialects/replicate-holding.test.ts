import { expect, test } from "vitest";
import { HELD_MAX, HELD_OF_TENANT_MAX, heldBack } from "../../../worker/dialects/replicate/holding.ts";
import { isRefusal, refuse, type Refusal } from "../../../worker/refusal.ts";

const HERE = new AbortController().signal;
const soon = () => refuse("requests", { retryAfterMs: 1 });
/** A request that is held for a while and then refused. */
const refusedLater = (tenant: string, gone = HERE, ms = 600) => heldBack(tenant, gone, async () => soon(), ms);
const reasonOf = (outcome: unknown): string | null => (isRefusal(outcome) ? outcome.reason : null);

test("a success, or a refusal that waiting does not resolve, is tried once", async () => {
  for (const outcome of ["done", refuse("quota"), refuse("not_found"), refuse("no_healthy_card")]) {
    let tries = 0;
    const attempt = async (): Promise<string | Refusal> => (tries++, outcome);
    expect(await heldBack("one", HERE, attempt)).toBe(outcome);
    expect(tries).toBe(1);
  }
});

test.each(["requests", "concurrency"] as const)("%s is tried again until it passes", async (reason) => {
  let tries = 0;
  const attempt = async (): Promise<string | Refusal> => (++tries < 3 ? refuse(reason, { retryAfterMs: 1 }) : "done");
  expect(await heldBack("one", HERE, attempt)).toBe("done");
  expect(tries).toBe(3);
});

test("at the end of its time the request gets its refusal, and not before", async () => {
  const from = Date.now();
  expect(reasonOf(await refusedLater("one"))).toBe("requests");
  expect(Date.now() - from).toBeGreaterThanOrEqual(590);
});

test("a request whose caller hangs up is not tried again", async () => {
  const gone = new AbortController();
  let tries = 0;
  const held = heldBack("one", gone.signal, async () => (tries++, soon()));
  setTimeout(() => gone.abort(), 50);
  expect(reasonOf(await held)).toBe("requests");
  expect(tries).toBe(1);
});

test("beyond the limits per tenant and in total a request is 503 at once, and room is freed afterwards", async () => {
  const tenants = Array.from({ length: HELD_MAX / HELD_OF_TENANT_MAX }, (_, i) => `tenant-${i}`);
  const all = tenants.flatMap((tenant) => Array.from({ length: HELD_OF_TENANT_MAX }, () => refusedLater(tenant)));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const from = Date.now();
  expect(reasonOf(await refusedLater("tenant-0"))).toBe("queue_full");
  expect(reasonOf(await refusedLater("another"))).toBe("queue_full");
  expect(Date.now() - from).toBeLessThan(100);
  for (const outcome of await Promise.all(all)) expect(reasonOf(outcome)).toBe("requests");
  expect(reasonOf(await refusedLater("tenant-0", HERE, 10))).toBe("requests");
});

test("a tenant at its limit of held requests is refused one more, while others still have room", async () => {
  const held = Array.from({ length: HELD_OF_TENANT_MAX }, () => refusedLater("one"));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(reasonOf(await refusedLater("one"))).toBe("queue_full");
  expect(reasonOf(await refusedLater("two", HERE, 10))).toBe("requests");
  await Promise.all(held);
});
