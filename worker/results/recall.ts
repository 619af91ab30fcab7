/** Finds the stored answer of an ask, and copies a shared one to the tenant. */
import { withTimeout, CallTimeout } from "../../durable-objects/timeout.ts";
import { lookUp, type Stored } from "../cache.ts";
import { answerKey } from "./stored-answer.ts";
import { pieces, type Whole } from "./pieces.ts";
import type { Running } from "../run.ts";
import { keep, plan } from "../store.ts";

type Asking = Pick<Running, "env" | "ask" | "fingerprint" | "caller" | "trace" | "base" | "ctx">;

/**
 * Returns the stored answer of this ask: the tenant's own, or, for a shared cache, the shared one. On first use, the
 * shared answer is copied to the tenant, with results of its own. A store that does not respond counts as a miss.
 */
export async function findStored(asking: Asking): Promise<Stored | "expired" | null> {
  try {
    return await find(asking);
  } catch (error) {
    if (!(error instanceof CallTimeout)) throw error;
    console.warn(JSON.stringify({ event: "store_unreachable", request: asking.trace.id, error: String(error) }));
    return null;
  }
}

async function find(asking: Asking): Promise<Stored | "expired" | null> {
  const { env, ask, fingerprint, caller, trace, base, ctx } = asking;
  if (!fingerprint.cacheable) return null;
  const now = Date.now();
  const own = await lookUp(asking, answerKey(caller.tenant, fingerprint.key), now);
  if ((own !== null && own !== "expired") || fingerprint.scope !== "shared") return own;
  const shared = await lookUp(asking, answerKey("shared", fingerprint.key), now);
  if (shared === null || shared === "expired" || shared.body === null) return shared ?? own;
  const bytes = new Uint8Array(await withTimeout(new Response(shared.body).arrayBuffer()));
  const whole: Whole = { status: shared.status, headers: shared.headers, bytes, endKnown: true };
  const pieced = pieces(ask, whole);
  const found = "problem" in pieced ? [] : pieced;
  const later = (work: Promise<unknown>) => ctx.waitUntil(work);
  const ttlMs = ask.service.config.cache.ttl_s * 1000;
  const keeping = {
    ask,
    tenant: caller.tenant,
    requestId: trace.id,
    base,
    later,
    answer: { fingerprint: fingerprint.key, shared: false, replace: own === "expired", ttlMs, keepMs: ttlMs },
  };
  const kept = await keep(env, keeping, plan(keeping, whole, found), whole, found);
  return { ...shared, body: bytes.buffer, results: kept.results.map((row) => row.id) };
}
