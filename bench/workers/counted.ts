/**
 * The deployed Worker with all uses of its bindings counted, including those by its objects and Workflows. The
 * `X-Counted` header of each answer contains the counts since the start. Calls on RPC targets that an object has
 * returned (a ticket, a lease) do not go through a binding and are not counted.
 */
import type { Env, RunParams } from "../../worker/env.ts";
import worker, * as portico from "../../worker/index.ts";

export { Sender } from "../../worker/index.ts";

const counts = {
  d1_reads: 0,
  d1_writes: 0,
  r2_reads: 0,
  r2_writes: 0,
  objects: 0,
  object_rows: 0,
  workflows: 0,
  limits: 0,
};
type Counted = keyof typeof counts;

/** Wraps an object so that each method call is counted under the name that `as` returns (null: not counted). */
function counting<T extends object>(thing: T, as: (name: string, args: unknown[]) => Counted | null): T {
  return new Proxy(thing, {
    get(_, name) {
      const member: unknown = Reflect.get(thing, name, thing);
      if (typeof name === "symbol" || typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        const use = as(name, args);
        if (use !== null) counts[use]++;
        return Reflect.apply(member, thing, args);
      };
    },
  });
}

/** Counts calls on the objects' stubs, not the creation of stubs. */
function countingObjects<T extends Rpc.DurableObjectBranded>(
  namespace: DurableObjectNamespace<T>,
): DurableObjectNamespace<T> {
  return new Proxy(namespace, {
    get(_, name) {
      if (name === "getByName") return (id: string) => counting(namespace.getByName(id), () => "objects");
      return Reflect.get(namespace, name, namespace);
    },
  });
}

function asD1(name: string, [sql]: unknown[]): Counted | null {
  if (name !== "prepare") return null;
  return /^\s*select/i.test(String(sql)) ? "d1_reads" : "d1_writes";
}

function asR2(name: string): Counted {
  return name === "get" || name === "head" || name === "list" ? "r2_reads" : "r2_writes";
}

/** Shared by all requests, because the Worker caches values per environment object. */
let wrapped: Env | undefined;

function wrap(env: Env): Env {
  return (wrapped ??= {
    ...env,
    DB: counting(env.DB, asD1),
    RESULTS: counting(env.RESULTS, asR2),
    CARD: countingObjects(env.CARD),
    POOL: countingObjects(env.POOL),
    TENANT: countingObjects(env.TENANT),
    JOB: countingObjects(env.JOB),
    BACKLOG: countingObjects(env.BACKLOG),
    IDEMPOTENCY: countingObjects(env.IDEMPOTENCY),
    COURIER: countingObjects(env.COURIER),
    RUN_JOB: counting<Workflow<RunParams>>(env.RUN_JOB, () => "workflows"),
    GUESSES: counting(env.GUESSES, () => "limits"),
    FLOOD: counting(env.FLOOD, () => "limits"),
  });
}

/** Makes the state's storage count the rows that it writes; setting an alarm or putting a value counts as one. */
function counted(ctx: DurableObjectState): DurableObjectState {
  const { storage } = ctx;
  const { sql, kv } = storage;
  const exec = sql.exec.bind(sql);
  sql.exec = <T extends Record<string, SqlStorageValue>>(query: string, ...values: unknown[]) => {
    const cursor = exec<T>(query, ...values);
    counts.object_rows += cursor.rowsWritten;
    return cursor;
  };
  const [put, setAlarm] = [kv.put.bind(kv), storage.setAlarm.bind(storage)];
  kv.put = (name: string, value: unknown) => {
    counts.object_rows++;
    put(name, value);
  };
  storage.setAlarm = async (at: number | Date) => {
    counts.object_rows++;
    await setAlarm(at);
  };
  return ctx;
}

/** Wraps a class so that its instances count what they use. */
function watched<C extends new (...args: never) => object>(made: C): C {
  return new Proxy(made, {
    construct: (_, [ctx, env]: [DurableObjectState | ExecutionContext, Env], as) =>
      Reflect.construct(made, ["storage" in ctx ? counted(ctx) : ctx, wrap(env)], as) as object,
  });
}

export const Card = watched(portico.Card);
export const Pool = watched(portico.Pool);
export const Tenant = watched(portico.Tenant);
export const Job = watched(portico.Job);
export const Backlog = watched(portico.Backlog);
export const Idempotency = watched(portico.Idempotency);
export const Courier = watched(portico.Courier);
export const RunJob = watched(portico.RunJob);

export default {
  async fetch(request, env, ctx) {
    const answer = await worker.fetch(request, wrap(env), ctx);
    const headers = new Headers(answer.headers);
    headers.set("x-counted", JSON.stringify(counts));
    return new Response(answer.body, { status: answer.status, headers });
  },
} satisfies ExportedHandler<Env>;
