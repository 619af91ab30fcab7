import { env as real } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import type { Env } from "../../../worker/env.ts";
import { completeService } from "../../../worker/services/kinds.ts";
import { provision } from "../../../worker/services/provision.ts";

/** Longest time that an object's answer is waited for. */
const ANSWER_MS_MAX = 10_000;
/** All others have answered by then. */
const OTHERS_MS = 200;
const VERSION = 7;

const env = real as unknown as Env;
const never = new Promise<never>(() => undefined);

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Stores a service and two cards that it lists. */
async function listed(id: string): Promise<string[]> {
  const config = JSON.stringify(completeService({ kind: "http", route: `/${id}/` }, null));
  const cards = ["a", "b"].map((name) => `${id}-${name}`);
  await env.DB.batch([
    env.DB.prepare(
      "INSERT INTO services (id, route, config, paused, version, created_at) VALUES (?, ?, ?, 0, ?, 1)",
    ).bind(id, `/${id}/`, config, VERSION),
    ...cards.flatMap((card) => [
      env.DB.prepare("INSERT INTO cards (id, token_hash, version, created_at) VALUES (?, ?, ?, 1)").bind(
        card,
        `hash of ${card}`,
        VERSION,
      ),
      env.DB.prepare("INSERT INTO listings (service_id, card_id, origin) VALUES (?, ?, 'http://127.0.0.1:9')").bind(
        id,
        card,
      ),
    ]),
  ]);
  return cards;
}

test.each(["fails", "never answers"] as const)(
  "a Card that %s keeps neither the Pool nor other Cards behind",
  async (how) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const warned = vi.spyOn(console, "warn").mockImplementation(() => undefined);
    const service = how.replace(" ", "-");
    const [lost, other = ""] = await listed(service);
    const configure = (): Promise<never> => (how === "fails" ? Promise.reject(new Error("overloaded")) : never);
    const getByName = (id: string): object => (id === lost ? { configure } : env.CARD.getByName(id));
    const CARD = { getByName } as unknown as Env["CARD"];
    const provisioned = provision({ ...env, CARD }, service);
    await scheduler.wait(OTHERS_MS);
    vi.advanceTimersByTime(ANSWER_MS_MAX);
    await provisioned;
    expect(await env.POOL.getByName(service).status()).toMatchObject({ version: VERSION });
    expect(await env.CARD.getByName(other).status()).toMatchObject({ report: { version: VERSION } });
    expect(warned.mock.calls).toEqual([[expect.stringContaining(`"card":"${lost}"`)]]);
  },
);
