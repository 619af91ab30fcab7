/** What ends a call to a card before its answer has ended. */
import { afterEach, expect, test, vi } from "vitest";
import type { Running } from "../../../worker/run.ts";
import type { Lease } from "../../../worker/run/lease.ts";
import { Watch } from "../../../worker/run/watch.ts";

const UPLOAD_MS_MAX = 600_000;

afterEach(() => void vi.useRealTimers());

test("a caller that keeps sending single bytes holds a slot for ten minutes and no longer", () => {
  vi.useFakeTimers();
  const upload = { refusal: null, turn: "origin", turned: () => {}, broken: () => {} };
  const ask = {
    service: { config: { timeouts: { read_s: 300, run_s: 86_400 }, abandon: "finish" } },
    deadlineAt: null,
    body: { kind: "stream", upload },
  };
  const running = { ask, gone: new AbortController().signal } as unknown as Running;
  const watch = new Watch(running, {} as Lease);
  const startedAt = Date.now();
  for (let i = 0; !watch.controller.signal.aborted && i < 100; i++) {
    upload.turn = "caller";
    upload.turned();
    vi.advanceTimersByTime(20_000);
    if (watch.controller.signal.aborted) break;
    upload.turn = "origin";
    upload.turned();
  }
  expect(Date.now() - startedAt).toBe(UPLOAD_MS_MAX);
  expect(watch.callersFault()).toMatchObject({ reason: "invalid_field", param: "body" });
});
