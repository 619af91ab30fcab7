/** Requests with an idempotency key whose Idempotency object restarts while they run. */
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

/** One idempotency key of a separate tenant. */
class Name {
  readonly #tenant = fresh("tenant");
  #object = "";

  async begin() {
    const getByName = (name: string) => env.IDEMPOTENCY.getByName((this.#object = name));
    const request = new Request("https://gpu.example.com/", { headers: { "idempotency-key": "key" } });
    const IDEMPOTENCY = { getByName } as unknown as Env["IDEMPOTENCY"];
    return onceOf({ ...env, IDEMPOTENCY }, { tenant: this.#tenant } as Caller, request, NAMED, true);
  }

  /** Begins a request that must be the first with its key. */
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

test("the outcome of a run is kept although the Idempotency object restarted during the run", async () => {
  const name = new Name();
  const once = await name.first();
  await name.restart();
  await once.settle(answer("a"), KEEP_MS);
  expect(await name.replayed()).toEqual(answer("a"));
});

test.each(["during", "after"] as const)(
  "a request that takes the key after a restart keeps it if the earlier run ends %s it",
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

test("a run that is dropped after a restart leaves the key free", async () => {
  const name = new Name();
  const once = await name.first();
  await name.restart();
  await once.drop();
  await (await name.first()).drop();
});

test.each(["text", new TextEncoder().encode("text")])(
  "an origin's error is kept whether its body is a string or bytes",
  async (body) => {
    const name = new Name();
    const once = await name.first();
    const headers = new Headers({ "content-type": "text/plain" });
    await settleError(once, { status: 404, headers, body } as Answer, KEEP_MS);
    expect(await name.replayed()).toEqual({ kind: "error", status: 404, contentType: "text/plain", body: "text" });
  },
);
