/** A named request whose Idempotency object restarts while it runs. */
import { runInDurableObject } from "cloudflare:test";
import { env as bindings } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { Caller } from "../../worker/auth.ts";
import type { Env } from "../../worker/env.ts";
import { isReplay, Once, onceOf } from "../../worker/once.ts";
import type { Answer } from "../../worker/run.ts";
import { settleError } from "../../worker/settle.ts";
import { fresh } from "./objects.ts";

const env = bindings as unknown as Env;
const KEEP_MS = 60_000;
const NAMED = { method: "POST", path: "/s/run", query: "", contentType: null, body: new Uint8Array() };

/** One idempotency key of a tenant of its own. */
class Name {
  readonly #tenant = fresh("tenant");
  #object = "";

  async begin() {
    const getByName = (name: string) => env.IDEMPOTENCY.getByName((this.#object = name));
    const request = new Request("https://gpu.example.com/", { headers: { "idempotency-key": "key" } });
    const IDEMPOTENCY = { getByName } as unknown as Env["IDEMPOTENCY"];
    return onceOf({ ...env, IDEMPOTENCY }, { tenant: this.#tenant } as Caller, request, NAMED, true);
  }

  /** A request that is the first of its name. */
  async first(): Promise<Once> {
    const once = await this.begin();
    if (!(once instanceof Once)) throw new Error(`not the first: ${JSON.stringify(once)}`);
    return once;
  }

  async replayed() {
    const once = await this.begin();
    return isReplay(once) ? once.replay : null;
  }

  async restart(): Promise<void> {
    const stub = bindings.IDEMPOTENCY.getByName(this.#object);
    await expect(runInDurableObject(stub, (_, state) => state.abort("restart"))).rejects.toThrow("restart");
  }
}

const answer = (key: string) => ({ kind: "answer" as const, keys: [key] });

test("the outcome of a run is kept under its name although the object restarted during the run", async () => {
  const name = new Name();
  const once = await name.first();
  await name.restart();
  await once.settle(answer("a"), KEEP_MS);
  expect(await name.replayed()).toEqual(answer("a"));
});

test.each(["during", "after"] as const)(
  "a request that took the name after a restart keeps it, although the run before it ends %s its own",
  async (when) => {
    const name = new Name();
    const before = await name.first();
    await name.restart();
    const later = await name.first();
    if (when === "after") await later.settle(answer("later"), KEEP_MS);
    await before.settle(answer("before"), KEEP_MS);
    if (when === "during") expect(await name.replayed()).toBeNull();
    await later.settle(answer("later"), KEEP_MS);
    expect(await name.replayed()).toEqual(answer("later"));
  },
);

test("a run that comes to nothing after a restart leaves the name free", async () => {
  const name = new Name();
  const once = await name.first();
  await name.restart();
  await once.drop();
  await (await name.first()).drop();
});

test.each(["text", new TextEncoder().encode("text")])(
  "an origin's own error is kept, whatever holds its body",
  async (body) => {
    const name = new Name();
    const once = await name.first();
    const headers = new Headers({ "content-type": "text/plain" });
    await settleError(once, { status: 404, headers, body } as Answer, KEEP_MS);
    expect(await name.replayed()).toEqual({ kind: "error", status: 404, contentType: "text/plain", body: "text" });
  },
);
