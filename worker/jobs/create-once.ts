/** Idempotency for the calls that create jobs, batches, files and deliveries. */
import type { Caller } from "../auth.ts";
import { isReplay, type NamedRequest, type Once, onceOf, REPLAYED } from "../once.ts";
import { type Refusal, isRefusal } from "../refusal.ts";
import type { CallContext } from "../call-context.ts";
import { admitReplay } from "../limits.ts";
import { catalog } from "../services/catalog.ts";
import { withTimeout } from "../../durable-objects/timeout.ts";
import { submissionState, viewOf } from "./submit.ts";

/**
 * Runs `make` once per idempotency key; a repeated call gets the job or batch that the first one made. `make` settles
 * the key and returns the new id. `body`: what makes two calls the same; undefined: too large to compare.
 */
export async function createOnce(
  context: CallContext,
  caller: Caller,
  body: unknown,
  make: (once: Once | null) => Promise<string | Refusal>,
  show: (id: string) => Promise<Response | Refusal>,
): Promise<Response | Refusal> {
  const once = await onceOf(context.env, caller, context.request, namedBy(context, body), true);
  if (isRefusal(once)) return once;
  if (isReplay(once)) {
    if (once.replay.kind !== "job" && once.replay.kind !== "batch") throw new Error("a name of another call");
    const { id } = once.replay;
    const absent = await submissionState(context, caller, id);
    if (isRefusal(absent)) return absent;
    const limited = absent === null ? await admitAgain(context, caller, once.replay.kind, id) : null;
    if (limited !== null) return limited;
    const again = absent === null ? await show(id) : null;
    if (again !== null && !isRefusal(again)) {
      context.trace.headers.set(REPLAYED, "true");
      return again;
    }
    await once.forget();
    return createOnce(context, caller, body, make, show);
  }
  try {
    const made = await make(once);
    return isRefusal(made) ? made : await show(made);
  } finally {
    await once?.drop();
  }
}

/**
 * The same for files and deliveries, which cost no quota. `make` returns the new id. A repeated call within `keepMs`
 * gets the same id, unless it no longer exists.
 */
export async function thingOnce(
  context: CallContext,
  caller: Caller,
  { kind, keepMs }: { kind: "file" | "delivery"; keepMs: number },
  body: unknown,
  make: () => Promise<string | Refusal>,
  show: (id: string) => Promise<Response | Refusal>,
): Promise<Response | Refusal> {
  const once = await onceOf(context.env, caller, context.request, namedBy(context, body), false);
  if (isRefusal(once)) return once;
  if (isReplay(once)) {
    if (once.replay.kind !== kind) throw new Error("a name of another call");
    const again = await show(once.replay.id);
    if (!isRefusal(again)) {
      context.trace.headers.set(REPLAYED, "true");
      return again;
    }
    await once.forget();
    return thingOnce(context, caller, { kind, keepMs }, body, make, show);
  }
  try {
    const id = await make();
    if (isRefusal(id)) return id;
    await once?.settle({ kind, id }, keepMs);
    return await show(id);
  } finally {
    await once?.drop();
  }
}

function namedBy({ request }: CallContext, body: unknown): NamedRequest {
  const text = body === undefined ? null : JSON.stringify(body);
  const bytes = text === null ? null : (new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
  const { pathname: path } = new URL(request.url);
  return { method: request.method, path, query: "", contentType: null, body: bytes };
}

/** A replay takes a rate token of its service, if the service still exists, and no quota. */
async function admitAgain(
  { env, trace }: CallContext,
  caller: Caller,
  kind: "job" | "batch",
  id: string,
): Promise<Refusal | null> {
  const batch = kind === "batch" ? await withTimeout(env.BACKLOG.getByName(caller.tenant).batch(id)) : null;
  const view = await viewOf(env, caller.tenant, batch?.jobs[0] ?? id);
  if (isRefusal(view)) return null;
  const service = (await catalog(env)).find((each) => each.id === view.spec.service);
  return service === undefined ? null : admitReplay(env, caller, trace, service);
}
