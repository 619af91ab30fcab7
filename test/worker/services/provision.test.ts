import { env as real } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";
import type { Entry } from "../../../durable-objects/pool-protocol.ts";
import { Line } from "../../../worker/dispatch.ts";
import type { Env } from "../../../worker/env.ts";
import { completeService } from "../../../worker/services/kinds.ts";
import { provision } from "../../../worker/services/provision.ts";
import { entryOf } from "../../pure/room-model.ts";

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

test("a card that was disabled while its object was unreachable is told by a later request", async () => {
  vi.spyOn(console, "warn").mockImplementation(() => undefined);
  const service = "unheard";
  const [lost = "", other] = await listed(service);
  await provision(env, service);
  await env.DB.batch([
    env.DB.prepare("UPDATE services SET version = version + 1 WHERE id = ?").bind(service),
    env.DB.prepare("UPDATE cards SET version = version + 1, state = 'disabled' WHERE id = ?").bind(lost),
  ]);
  const unreachable = { configure: () => Promise.reject(new Error("overloaded")) };
  const getByName = (id: string): object => (id === lost ? unreachable : env.CARD.getByName(id));
  const CARD = { getByName } as unknown as Env["CARD"];
  await provision({ ...env, CARD }, service);
  const entry: Entry = { ...entryOf("attempt", "t"), request: "request", version: VERSION + 1 };
  const provisioned = vi.fn(() => provision(env, service));
  const line = new Line(env, service, entry, { provision: provisioned, later: () => undefined });
  expect(await line.offer()).toMatchObject({ kind: "offer", card: other });
  expect(provisioned).toHaveBeenCalledTimes(1);
  expect(await env.CARD.getByName(lost).report()).toMatchObject({ version: VERSION + 1, state: "disabled" });
  await line.leave();
});
