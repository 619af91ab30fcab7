import { env } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import type { ResultRow } from "../../../worker/db/queries.ts";
import { recorded, recordSoon } from "../../../worker/results/rows.ts";

const SOON_MS = 250;

afterEach(() => vi.useRealTimers());

const row = (id: string): ResultRow => ({
  id,
  tenantId: "own",
  serviceId: "portrait",
  requestId: `of-${id}`,
  modelVersion: null,
  contentType: "image/png",
  bytes: 1,
  sha256: "",
  visibility: "signed",
  answerKey: null,
  createdAt: 1,
  expiresAt: 2,
});

async function ids(): Promise<unknown[]> {
  const { results } = await env.DB.prepare("SELECT id FROM results ORDER BY id").all();
  return results.map(({ id }) => id);
}

/** A database whose writes are slow. */
function slow(ms: number): typeof env {
  const batch = async (statements: D1PreparedStatement[]) => {
    await scheduler.wait(ms);
    return env.DB.batch(statements);
  };
  const get = (db: D1Database, name: string): unknown => {
    const member: unknown = Reflect.get(db, name);
    if (name === "batch") return batch;
    return typeof member === "function" ? (member.bind(db) as unknown) : member;
  };
  return { ...env, DB: new Proxy(env.DB, { get: (db, name) => get(db, String(name)) }) };
}

test("rows that arrive during a write are written after it", async () => {
  const slowly = slow(200);
  // A frozen clock, as in a request between its waits.
  vi.useFakeTimers({ toFake: ["Date"] });
  const first = recordSoon(slowly, [row("a")], []);
  const together = recordSoon(slowly, [row("b")], []);
  await scheduler.wait(SOON_MS + 50);
  const late = recordSoon(slowly, [row("c")], []);
  await Promise.all([first, together, late]);
  await recorded();
  expect(await ids()).toEqual(["a", "b", "c"]);
});
