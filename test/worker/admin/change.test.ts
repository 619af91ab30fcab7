import { expect, test } from "vitest";
import { attempt } from "../../../worker/admin/change.ts";
import { message } from "../../../worker/messages.ts";
import { isRefusal, REASONS, retryAfterSeconds } from "../../../worker/refusal.ts";

test("a change that conflicts with others three times is a 409 conflict that can be retried", async () => {
  let tries = 0;
  const refusal = await attempt<object>(() => {
    tries++;
    return Promise.resolve("stale");
  });
  if (!isRefusal(refusal)) throw new Error("not refused");
  expect(tries).toBe(3);
  expect(refusal.reason).toBe("changed_meanwhile");
  expect(REASONS[refusal.reason]).toMatchObject({ status: 409, code: "conflict", retryable: true });
  expect(retryAfterSeconds(refusal, 0)).toBe(1);
  expect(message(refusal, "en")).toBe("Someone else changed this at the same time; try again.");
  expect(message(refusal, "zh")).toBe("他人同时修改了此内容；请重试。");
});
