import { expect, test } from "vitest";
import type { FaultInput } from "../../sim/faults.ts";
import { eventually, refusal, tally } from "./caller.ts";
import { openLine, type Service } from "./line.ts";

const line = openLine();
const CARDS = 6;
/** The card that fails; the others are healthy. */
const BAD = "gpu-01-0";

/** Sends requests until the bad card was tried; every one must succeed. */
async function askPast(service: Service, key: string): Promise<void> {
  const before = tried();
  for (let asked = 0; tried() === before; asked++) {
    if (asked > CARDS * 2) throw new Error("the bad card was never tried");
    const answer = await line.ask({ service, key });
    expect(answer).toMatchObject({ status: 200, whole: true });
    expect(answer.header("x-portico-card")).not.toBe(BAD);
  }
}

/** The number of requests that reached the bad card or its tunnel. */
function tried(): number {
  return line.park.heads(BAD).length;
}

const image: [name: string, fault: FaultInput][] = [
  ["answers 500", { kind: "status", status: 500 }],
  ["answers 502", { kind: "status", status: 502 }],
  ["answers 503", { kind: "status", status: 503 }],
  ["answers 504 after its work", { kind: "status", status: 504, at: "end" }],
  ["has lost its tunnel (530)", { kind: "tunnel_down" }],
  ["resets before its work", { kind: "reset", at: "start" }],
  ["resets in the midst of its work", { kind: "reset", at: "after", after_ms: 30 }],
  ["resets in the midst of its answer", { kind: "reset", at: "body" }],
  ["sends a page in place of JSON", { kind: "not_json" }],
  ["sends JSON without JSON in it", { kind: "not_json", body: "{" }],
  ["sends damaged images", { kind: "bad_image", how: "bytes" }],
  ["sends images that are no base64", { kind: "bad_image", how: "base64" }],
  ["sends images that are cut", { kind: "bad_image", how: "cut" }],
  ["cuts its answer short of its length", { kind: "truncate", how: "length" }],
  ["cuts its answer within the chunks", { kind: "truncate", how: "chunked" }],
  ["cuts its answer inside the JSON", { kind: "truncate", how: "content" }],
  ["sends headers without measure", { kind: "huge_header" }],
  ["redirects", { kind: "redirect" }],
];

test.each(image)("a card that %s: the next card answers, and the caller does not notice", async (_, fault) => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 60 });
  await line.park.setFault(BAD, fault);
  await askPast(service, key);
});

test("a card that refuses connections: the next card answers, and the caller does not notice", async () => {
  const service = await line.service();
  const key = await line.key();
  line.park.setService({ service_ms: 60 });
  await line.park.setFault(BAD, { kind: "refuse" });
  const answers = await Promise.all((await line.calls(CARDS * 2, { service, key })).map((caller) => caller.answered));
  expect(tally(answers)).toEqual({ 200: CARDS * 2 });
  expect(line.park.counts().cards[BAD]?.starts).toBe(0);
});

test.each<[string, FaultInput]>([
  ["before its answer", { kind: "hang" }],
  ["in the midst of its answer", { kind: "stall" }],
])("a card that is silent for longer than read_s %s: the next card answers", async (_, fault) => {
  const service = await line.service({ timeouts: { read_s: 2 } });
  const key = await line.key();
  line.park.setService({ service_ms: 60 });
  await line.park.setFault(BAD, fault);
  await askPast(service, key);
});

test("if all cards are silent, the answer is 504 origin_timeout", async () => {
  const service = await line.service({ timeouts: { read_s: 2 }, retry: { tries: 2 } });
  const key = await line.key();
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "hang" });
  const answer = await line.ask({ service, key });
  expect(refusal(answer)).toBe("504 origin_timeout");
  expect(line.park.counts().starts).toBe(2);
});

test("an origin's own 4xx is passed on unchanged and is not retried at another card", async () => {
  const service = await line.service();
  const key = await line.key();
  const answer = await line.ask({ service, key, body: { cfg_scale: "much" } });
  expect(answer.status).toBe(422);
  expect(JSON.parse(answer.text)).toHaveProperty("detail");
  for (const { card } of line.park.cards)
    await line.park.setFault(card, { kind: "status", status: 418, body: '{"detail":"teapot"}' });
  const teapot = await line.ask({ service, key });
  expect([teapot.status, teapot.text]).toEqual([418, '{"detail":"teapot"}']);
  expect(line.park.counts().starts).toBe(1);
});

test("retry.tries limits the starts of one request, and each try is at another card", async () => {
  const key = await line.key();
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "status", status: 500 });
  for (const tries of [1, 2, 5]) {
    line.park.reset();
    const service = await line.service({ retry: { tries } });
    const answer = await line.ask({ service, key });
    expect(refusal(answer)).toBe("502 origin_status");
    const starts = Object.values(line.park.counts().cards).map((card) => card.starts);
    expect(Math.max(...starts)).toBe(1);
    expect(starts.filter((count) => count === 1)).toHaveLength(tries);
  }
});

test("no try starts later than retry.timeout_s after the first", async () => {
  const service = await line.service({ retry: { tries: 5, timeout_s: 1 }, timeouts: { read_s: 2 } });
  const key = await line.key();
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "hang" });
  expect(refusal(await line.ask({ service, key }))).toBe("504 origin_timeout");
  expect(line.park.counts().starts).toBe(1);
});

test("if all cards refuse connections, callers are refused quickly, and with Retry-After after ejection", async () => {
  const service = await line.service({ breaker: { max_fails: 1, fail_timeout_s: 20 } });
  const key = await line.key();
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "refuse" });
  const from = performance.now();
  const answers = await Promise.all((await line.calls(CARDS, { service, key })).map((caller) => caller.answered));
  expect(performance.now() - from).toBeLessThan(5_000);
  for (const answer of answers) expect(["502 origin_refused", "503 no_healthy_card"]).toContain(refusal(answer));
  await eventually("all are ejected", async () => refusal(await line.ask({ service, key })) === "503 no_healthy_card");
  const refused = await line.ask({ service, key });
  expect(Number(refused.header("retry-after"))).toBeGreaterThanOrEqual(1);
  expect(Number(refused.header("retry-after"))).toBeLessThanOrEqual(30);
  expect(line.park.counts().starts).toBe(0);
});

test("a request too large to be kept in memory is sent only once", async () => {
  const service = await line.service({ retry: { tries: 5 }, bounds: {}, forbid: [] });
  const key = await line.key();
  for (const { card } of line.park.cards) await line.park.setFault(card, { kind: "status", status: 500 });
  const answer = await line.ask({ service, key, body: { filler: "f".repeat(9 * 1024 * 1024) } });
  expect(refusal(answer)).toBe("502 origin_status");
  expect(line.park.counts().starts).toBe(1);
});
