/**
 * The Worker that is deployed, with every use of its bindings counted: each answer says in `X-Counted` what there has
 * been since the start. Calls on what an object handed out (a ticket, a lease) go by no binding and are not counted.
 */
import type { Env } from "../../worker/env.ts";
import worker from "../../worker/index.ts";

export * from "../../worker/index.ts";

const counts = { d1_reads: 0, d1_writes: 0, r2_reads: 0, r2_writes: 0, objects: 0, limits: 0 };
type Counted = keyof typeof counts;

/** Calls a method of the thing itself, having counted it as whatever `as` says. */
function counting<T extends object>(thing: T, as: (name: string, args: unknown[]) => Counted | null): T {
  return new Proxy(thing, {
    get(_, name) {
      const member: unknown = Reflect.get(thing, name, thing);
      if (typeof name === "symbol" || typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        const counted = as(name, args);
        if (counted !== null) counts[counted]++;
        return Reflect.apply(member, thing, args);
      };
    },
  });
}

/** Its objects' stubs are counted, not the making of them. */
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

/** One for all requests: what the Worker keeps by its environment stays kept. */
let wrapped: Env | undefined;

function wrap(env: Env): Env {
  return {
    ...env,
    DB: counting(env.DB, asD1),
    RESULTS: counting(env.RESULTS, asR2),
    CARD: countingObjects(env.CARD),
    POOL: countingObjects(env.POOL),
    TENANT: countingObjects(env.TENANT),
    GUESSES: counting(env.GUESSES, () => "limits"),
    FLOOD: counting(env.FLOOD, () => "limits"),
  };
}

export default {
  async fetch(request, env, ctx) {
    const answer = await worker.fetch(request, (wrapped ??= wrap(env)), ctx);
    const headers = new Headers(answer.headers);
    headers.set("x-counted", JSON.stringify(counts));
    return new Response(answer.body, { status: answer.status, headers });
  },
} satisfies ExportedHandler<Env>;
