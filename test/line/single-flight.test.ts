import { expect, test } from "vitest";
import { type Caller, eventually, refusal, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine({ park: { servers: 1, gpus: 2 } });
const FOLLOWERS = 20;
const PROMPT = "the same for all";
/** An explicit seed makes a picture cacheable. */
const SAME = { prompt: PROMPT, body: { seed: 7 } };

const answers = (callers: Caller[]) => Promise.all(callers.map((caller) => caller.answered));
const starts = () => line.starts({ prompt: PROMPT });
const queued = (service: Service, count: number) =>
  eventually(`${count} wait`, async () => (await line.queued(service)) === count);

/** Starts a leader and `count` followers that wait for its result. */
async function follow(
  service: Service,
  key: string,
  count = FOLLOWERS,
): Promise<{ leader: Caller; followers: Caller[] }> {
  const leader = await line.call({ service, key, ...SAME });
  await line.running([leader]);
  const followers = await line.calls(count, { service, key, ...SAME });
  await queued(service, count);
  return { leader, followers };
}

test("twenty identical requests during a run get the same answer from that run", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const { leader, followers } = await follow(service, key);
  const all = await answers([leader, ...followers]);
  expect(tally(all)).toEqual({ 200: FOLLOWERS + 1 });
  expect(new Set(all.map(({ text }) => text)).size).toBe(1);
  const told = all.map((answer) => answer.header("cache-status"));
  expect(told.filter((status) => status === "portico; fwd=miss; stored")).toHaveLength(1);
  expect(told.filter((status) => status === "portico; fwd=miss; collapsed")).toHaveLength(FOLLOWERS);
  expect(starts()).toBe(1);
  // From now on it is a hit.
  expect((await line.ask({ service, key, ...SAME })).header("cache-status")).toMatch(/^portico; hit/);
  expect(starts()).toBe(1);
});

test("followers hold no slot, and each counts toward the tenant's waiting number", async () => {
  const service = await line.service();
  const key = await line.key({ limits: { concurrent: 2, waiting: 3 } });
  line.park.setService({ service_ms: 3_000 });
  const { leader, followers } = await follow(service, key, 3);
  expect(refusal(await line.ask({ service, key, ...SAME }))).toBe("429 concurrency");
  // The tenant's second slot is free for another request.
  const other = await line.call({ service, key });
  await line.running([other]);
  expect(tally(await answers([leader, ...followers, other]))).toEqual({ 200: 5 });
  expect(line.park.counts().starts).toBe(2);
});

test("without a shared cache two tenants never share a run", async () => {
  const service = await line.service();
  const keys = [await line.key(), await line.key()];
  line.park.setService({ service_ms: 500 });
  const callers = await Promise.all(keys.map((key) => line.call({ service, key, ...SAME })));
  expect(tally(await answers(callers))).toEqual({ 200: 2 });
  expect(starts()).toBe(2);
});

test("when the leader's caller hangs up in line, the next one leads, and there is one run", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 200 });
  const letGo = await line.takeAll();
  const leader = await line.call({ service, key, ...SAME });
  await queued(service, 1);
  const followers = await line.calls(5, { service, key, ...SAME });
  await queued(service, 6);
  leader.hangUp();
  await queued(service, 5);
  letGo();
  expect(tally(await answers(followers))).toEqual({ 200: 5 });
  expect(starts()).toBe(1);
});

test("finish: when the leader's caller hangs up during the run, the followers get its result", async () => {
  const service = await line.service({ abandon: "finish" });
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const { leader, followers } = await follow(service, key);
  leader.hangUp();
  expect(tally(await answers(followers))).toEqual({ 200: FOLLOWERS });
  expect(starts()).toBe(1);
});

test("cancel: each time the leader's caller hangs up the next one starts the run, and no follower fails", async () => {
  const service = await line.service({ abandon: "cancel" });
  const key = await line.key();
  line.park.setService({ service_ms: 60_000, ghost: false });
  const callers = new Map<string, Caller>();
  for (let i = 0; i < 6; i++) {
    const id = `caller-${i}`;
    callers.set(id, await line.call({ service, key, ...SAME, headers: { "x-request-id": id } }));
  }
  await queued(service, 5);
  for (let gone = 1; gone <= 3; gone++) {
    await eventually("one of them runs", () => starts() === gone);
    if (gone === 3) line.park.setService({ service_ms: 200 });
    await hangUpLeader(callers, key);
  }
  expect(tally(await answers([...callers.values()]))).toEqual({ 200: 3 });
  expect(starts()).toBe(4);
});

/** Hangs up the caller whose request is running; only its record tells which one that is. */
async function hangUpLeader(callers: Map<string, Caller>, key: string): Promise<void> {
  const count = callers.size;
  await eventually("the one who runs is found", async () => {
    for (const [id, caller] of callers) {
      if ((await line.became(id, key))?.state !== "running") continue;
      caller.hangUp();
      return callers.delete(id);
    }
    return false;
  });
  expect(callers.size).toBe(count - 1);
}

test("when the leader fails, the next one starts the run once more, and then all are told the failure", async () => {
  const service = await line.service({ retry: { tries: 1 }, breaker: { max_fails: 100 } });
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "status", status: 500, at: "end" });
  const { leader, followers } = await follow(service, key, 6);
  const all = await answers([leader, ...followers]);
  expect(all.map(refusal)).toEqual(all.map(() => "502 origin_status"));
  expect(starts()).toBe(2);
});

test("when the leader fails and the second run succeeds, only the leader gets the failure", async () => {
  const service = await line.service({ retry: { tries: 1 }, breaker: { max_fails: 100 } });
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "status", status: 500, at: "end" });
  const { leader, followers } = await follow(service, key, 6);
  await line.park.heal();
  expect(refusal(await leader.answered)).toBe("502 origin_status");
  expect(tally(await answers(followers))).toEqual({ 200: 6 });
  expect(starts()).toBe(2);
});

test("an origin's own 4xx is passed on to all identical requests", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  for (const { card } of line.park.cards)
    await line.park.setFault(card, { kind: "status", status: 422, body: '{"detail":"no"}', at: "end" });
  const { leader, followers } = await follow(service, key, 4);
  const all = await answers([leader, ...followers]);
  expect(all.map(({ status, text }) => [status, text])).toEqual(all.map(() => [422, '{"detail":"no"}']));
  expect(starts()).toBe(1);
});

test("a hundred identical requests at once cause one run and get equal answers", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  const all = await answers(await line.calls(100, { service, key, ...SAME }));
  expect(tally(all)).toEqual({ 200: 100 });
  expect(new Set(all.map(({ text }) => text)).size).toBe(1);
  expect(starts()).toBe(1);
});

test("in a shared cache tenants share a run, and each gets its own results", async () => {
  const service = await line.service({ cache: { shared: true } });
  const keys = await Promise.all(Array.from({ length: 5 }, () => line.key()));
  line.park.setService({ service_ms: 2_000 });
  const callers = (await Promise.all(keys.map((key) => line.calls(4, { service, key, ...SAME })))).flat();
  const all = await answers(callers);
  expect(tally(all)).toEqual({ 200: 20 });
  expect(new Set(all.map(({ text }) => text)).size).toBe(1);
  expect(starts()).toBe(1);
  const links = keys.map((_, i) => new Set(all.slice(4 * i, 4 * i + 4).map(idOf)));
  expect(new Set(links.flatMap((ids) => [...ids])).size).toBeGreaterThanOrEqual(keys.length);
  links.forEach((ids, i) => {
    for (const others of links.slice(i + 1)) expect(ids.isDisjointFrom(others)).toBe(true);
  });
});

test("in a shared cache a request does not wait for a tenant at its cap, and both get the answer", async () => {
  const service = await line.service({ cache: { shared: true } });
  const [capped, free] = [await line.key({ limits: { concurrent: 1 } }), await line.key()];
  line.park.setService({ service_ms: 5_000 });
  const long = await line.call({ service, key: capped });
  await line.running([long]);
  const waits = await line.call({ service, key: capped, ...SAME });
  await queued(service, 1);
  line.park.setService({ service_ms: 200 });
  const all = await answers([await line.call({ service, key: free, ...SAME }), waits]);
  expect(line.park.counts().running).toBe(1);
  expect(all.map(({ status }) => status)).toEqual([200, 200]);
  expect(all[1]?.header("cache-status")).toBe("portico; fwd=miss; collapsed");
  expect(starts()).toBe(1);
  expect((await long.answered).status).toBe(200);
});

const idOf = (answer: { header: (name: string) => string | null }) =>
  /results\/(\w+)/.exec(answer.header("link") ?? "")?.[1] ?? "none";

test("followers that hang up leave the line, and the others get the result", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 3_000 });
  const { leader, followers } = await follow(service, key);
  const [gone, staying] = [followers.slice(0, 15), followers.slice(15)];
  for (const caller of gone) caller.hangUp();
  await queued(service, staying.length);
  expect(tally(await answers([leader, ...staying]))).toEqual({ 200: 1 + staying.length });
  expect(starts()).toBe(1);
});

test("when the leader and all followers hang up, the result is a hit for later requests", async () => {
  const service = await line.service({ abandon: "finish" });
  const key = await line.key();
  line.park.setService({ service_ms: 2_000 });
  const { leader, followers } = await follow(service, key, 5);
  for (const caller of [leader, ...followers]) caller.hangUp();
  await line.conserved();
  await eventually("it is stored", async () =>
    Boolean((await line.ask({ service, key, ...SAME })).header("cache-status")?.startsWith("portico; hit")),
  );
  expect(starts()).toBe(1);
});
