/** The contenders on the Workers runtime: Portico as it is deployed, and a Worker that only forwards. */
import { join } from "node:path";
import { Admin } from "../local/admin.ts";
import { bundle, type Bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { loadSecrets, type Secrets } from "../local/secrets.ts";
import type { CardPlace } from "./cards.ts";
import type { Contender, Door } from "./contenders.ts";
import { makeFolder, startOwn } from "./program.ts";

const RATE = 1_000_000;
const SLOTS_MAX = 1_000;
const WAITING_MAX = 10_000;
/** One lease life of 40 s, the restart, and some time to see that it has recovered. */
const RECOVERY_MS = 52_000;
/** A few times the longest run, s, as an operator with runs of under half a second, or two seconds, would set it. */
const DRAIN_S = 5;

export const portico: Contender = {
  name: "portico",
  title: "Portico",
  part: "all",
  alone: true,
  isHasty: false,
  isRenewed: false,
  recoveryMs: RECOVERY_MS,
  missing: () => null,
  open: async (cards) => {
    const runtime = await openRuntime(() => bundle());
    const [key] = await furnish(new Admin(runtime.url, runtime.secrets.ADMIN_TOKEN), cards);
    const authorization = `Bearer ${key}`;
    const target = { port: runtime.port, headers: { authorization } };
    return { target: () => target, restart: runtime.restart, close: runtime.close };
  },
};

/** The platform's own cost: the same runtime, settings and sockets, with a Worker that only forwards. */
export const bareWorker: Contender = {
  name: "bare-worker",
  title: "bare Worker",
  part: "bound",
  alone: true,
  isHasty: false,
  isRenewed: false,
  recoveryMs: RECOVERY_MS,
  missing: () => null,
  open: async (cards) => {
    const runtime = await openRuntime((folder) => bundle(join(ROOT, "bench/workers/bare.ts"), join(folder, "bare")));
    const origin = (user: number) => `http://127.0.0.1:${cards[user % cards.length]?.port}`;
    return {
      target: (user) => ({ port: runtime.port, headers: { "x-origin": origin(user) } }),
      restart: runtime.restart,
      close: runtime.close,
    };
  },
};

export interface OpenRuntime extends Pick<Door, "restart" | "close"> {
  url: string;
  port: number;
  secrets: Secrets;
}

export async function openRuntime(build: (folder: string) => Promise<Bundle>): Promise<OpenRuntime> {
  const { path: stateDir, remove } = await makeFolder();
  const { path } = await build(stateDir);
  let program = await startOwn("local/serve.ts", [stateDir, "0", path]);
  const port = Number(program.ready["port"]);
  const restart = async (): Promise<void> => {
    await program.kill();
    program = await startOwn("local/serve.ts", [stateDir, String(port), path]);
  };
  const close = async (): Promise<void> => {
    await program.stop();
    await remove();
  };
  return { url: `http://127.0.0.1:${port}`, port, secrets: await loadSecrets(stateDir), restart, close };
}

/** Creates one service on all cards and one tenant with limits high enough for all users. Returns its keys. */
export async function furnish(admin: Admin, cards: readonly CardPlace[], keyCount = 1): Promise<string[]> {
  const service = { kind: "image", route: "/sdapi/v1/", queue: { max: WAITING_MAX }, drain: { max_s: DRAIN_S } };
  await admin.call("PUT", "/services/portrait", service);
  for (const { card, port, server, gpu } of cards) {
    const origin = `http://127.0.0.1:${port}`;
    await admin.call("PUT", `/services/portrait/cards/${card}`, { origin, server, gpu });
  }
  const limits = { requests_per_minute: RATE, burst: RATE, concurrent: SLOTS_MAX, waiting: WAITING_MAX };
  const { id } = await admin.call<{ id: string }>("POST", "/tenants", { name: "bench", limits });
  const keys: string[] = [];
  for (let i = 0; i < keyCount; i++)
    keys.push((await admin.call<{ key: string }>("POST", `/tenants/${id}/keys`, {})).key);
  return keys;
}
