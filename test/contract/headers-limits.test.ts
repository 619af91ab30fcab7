/** A tenant's limits in the headers of its answers. */
import { parseList } from "structured-headers";
import { expect, test } from "vitest";
import { type Answers, LIMITS, makeAnswers } from "./answers.ts";
import { doorway } from "./doorway.ts";

const door = doorway({ services: { portrait: { max_body_mb: 0.1 } } });
let kept: Promise<Answers> | undefined;
const answers = () => (kept ??= makeAnswers(door));

test("RateLimit-Policy is on every authenticated answer and parses as a structured field", async () => {
  const { authenticated, results } = await answers();
  const { signed: _, ...withKey } = results;
  for (const [name, answer] of Object.entries({ ...authenticated, ...withKey })) {
    const policies = new Map(
      parseList(answer.header("ratelimit-policy") ?? "").map(([item, params]) => [item, params]),
    );
    expect([...policies.keys()], name).toEqual(expect.arrayContaining(["requests", "slots"]));
    expect(policies.get("requests")?.get("q"), name).toBe(LIMITS.requests_per_minute);
    expect(policies.get("requests")?.get("w"), name).toBe(60);
    expect(policies.get("slots")?.get("q"), name).toBe(LIMITS.concurrent);
    expect(policies.get("slots")?.get("qu"), name).toBe("concurrent-requests");
  }
});

test("RateLimit is on answers that took a rate token, parses as a structured field, and falls", async () => {
  const { authenticated } = await answers();
  for (const name of ["miss", "bypass", "sound", "stream", "read"]) {
    const limits = new Map(
      parseList(authenticated[name]?.header("ratelimit") ?? "").map(([item, params]) => [item, params]),
    );
    const left = limits.get("requests")?.get("r");
    expect(left, name).toBeTypeOf("number");
    expect(left as number, name).toBeLessThan(LIMITS.requests_per_minute);
    expect(limits.get("requests")?.get("t") ?? 0, name).toBeTypeOf("number");
  }
  const key = await door.key({ limits: { requests_per_minute: 60, burst: 10 } });
  const lefts: number[] = [];
  for (let i = 0; i < 3; i++) {
    const answer = await door.ask("/sdapi/v1/sd-models", { key });
    lefts.push(Number(parseList(answer.header("ratelimit") ?? "")[0]?.[1].get("r")));
  }
  expect(lefts[2]).toBeLessThan(lefts[0] ?? 0);
});

test("a hit takes no rate token and has no RateLimit", async () => {
  expect((await answers()).authenticated["hit"]?.header("ratelimit")).toBe(null);
});

test("an answer without a tenant carries no limits", async () => {
  for (const [name, answer] of Object.entries((await answers()).open)) {
    expect(answer.header("ratelimit-policy"), name).toBe(null);
    expect(answer.header("ratelimit"), name).toBe(null);
  }
});
