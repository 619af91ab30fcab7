/**
 * The whole product for tests over real sockets: the bundle in the runtime, with its own state on a free port, and
 * simulated cards (or origins that the test provides) listed in both services.
 *
 *   const portico = await startPortico();
 *   const headers = { authorization: `Bearer ${await portico.key()}` };
 *   await raw(portico.url, { method: "POST", target: "/sdapi/v1/txt2img", headers });
 *   await portico.stop();
 *
 * With `child: true` the runtime is a separate process, which `kill9` kills; `mf` throws then.
 */
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Miniflare } from "miniflare";
import { inject } from "vitest";
import { Admin } from "../../local/admin.ts";
import { startDoorProcess } from "../../local/door-process.ts";
import { startRuntime } from "../../local/runtime.ts";
import { loadSecrets } from "../../local/secrets.ts";
import { SERVICES } from "../../local/seed.ts";
import { takeStateDir } from "../../local/state.ts";
import { type Park, type ParkOptions, startPark } from "../../sim/park.ts";
import { descendantsOf, ended } from "./processes.ts";

const KILLED_MS_MAX = 3_000;
/** Short enough that a test does not wait for a picture, long enough that requests overlap. */
const SPEED = 0.1;

/** An origin that the test itself runs. */
export interface TestCard {
  card: string;
  origin: string;
  server?: string;
  gpu?: number;
  slots?: number;
  /** Default: all services. */
  services?: string[];
}

export interface PorticoOptions {
  /** The test's own origins instead of simulated cards; `[]` for none. */
  cards?: TestCard[];
  /** Options of the simulated cards. */
  park?: ParkOptions;
  /** Factor on the times of simulated cards; 1 is their own pace. */
  speed?: number;
  /** Merged into the settings of a service, by its id; ids beyond the two standard ones create more services. */
  services?: Record<string, Record<string, unknown>>;
  /** Runs the runtime in its own process. */
  child?: boolean;
  /** Additional variables for the Worker. */
  vars?: Record<string, string>;
  /** Path of a bundle other than the deployed one. */
  bundle?: string;
}

export interface KeyOptions {
  /** Default: a new tenant. */
  tenant?: string;
  limits?: Record<string, unknown>;
  scopes?: string[];
  services?: string[];
  expires_at?: string;
}

export interface Portico {
  url: string;
  stateDir: string;
  adminToken: string;
  /** Null when the test brought its own cards. */
  park: Park | null;
  /** Throws with `child: true`. */
  mf(): Miniflare;
  /** `path` is below /admin/v1; a refusal is thrown as RefusedError. */
  admin<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /** Creates a tenant. Returns its id. */
  tenant(limits?: Record<string, unknown>): Promise<string>;
  /** Creates a key. */
  key(options?: KeyOptions): Promise<string>;
  /** Stops the runtime gracefully and starts it again: same state, same address. */
  restart(): Promise<void>;
  /** Kills the runtime; only with `child: true`. `restart` starts it again. */
  kill9(): Promise<void>;
  stop(): Promise<void>;
}

/** One instance of the runtime, in this process or in its own. */
interface Run {
  port: number;
  mf: Miniflare | null;
  stop(): Promise<void>;
  kill9(): Promise<void>;
}

export async function startPortico(options: PorticoOptions = {}): Promise<Portico> {
  const stateDir = await mkdtemp(join(tmpdir(), "portico-test-"));
  const start = options.child === true ? startChild : startHere;
  let run: Run | null = await start(stateDir, 0, options);
  const { port } = run;
  const secrets = await loadSecrets(stateDir);
  const url = `http://127.0.0.1:${port}`;
  const admin = new Admin(url, secrets.ADMIN_TOKEN);
  const service = { speed: options.speed ?? SPEED, ...options.park?.service };
  const park = options.cards === undefined ? await startPark({ ...options.park, service }) : null;
  await list(admin, options, park);

  let tenants = 0;
  const tenant = async (limits: Record<string, unknown> = {}) => {
    tenants += 1;
    const made = await admin.call<{ id: string }>("POST", "/tenants", { name: `tenant-${tenants}`, limits });
    return made.id;
  };
  const stopRun = async () => {
    await run?.stop();
    run = null;
  };
  return {
    url,
    stateDir,
    adminToken: secrets.ADMIN_TOKEN,
    park,
    mf: () => {
      if (run?.mf == null) throw new Error("the runtime is not in this process");
      return run.mf;
    },
    admin: (method, path, body) => admin.call(method, path, body),
    tenant,
    key: async ({ tenant: given, limits, ...body } = {}) => {
      const id = given ?? (await tenant(limits));
      return (await admin.call<{ key: string }>("POST", `/tenants/${id}/keys`, body)).key;
    },
    restart: async () => {
      await stopRun();
      run = await start(stateDir, port, options);
    },
    kill9: async () => {
      await run?.kill9();
      run = null;
    },
    stop: async () => {
      await stopRun();
      await park?.close();
      await rm(stateDir, { recursive: true, force: true });
    },
  };
}

async function list(admin: Admin, { cards, services = {} }: PorticoOptions, park: Park | null): Promise<void> {
  const standard = Object.fromEntries(SERVICES.map(({ id, kind, route }) => [id, { kind, route }]));
  const ids = [...new Set([...Object.keys(standard), ...Object.keys(services)])];
  for (const id of ids) await admin.call("PUT", `/services/${id}`, { ...standard[id], ...services[id] });
  for (const card of cards ?? park?.cards ?? []) {
    const { card: name, origin, server, gpu, slots } = card;
    const listed = "services" in card && card.services !== undefined ? card.services : ids;
    for (const id of listed) await admin.call("PUT", `/services/${id}/cards/${name}`, { origin, server, gpu, slots });
  }
}

async function startHere(stateDir: string, port: number, { vars = {}, bundle }: PorticoOptions): Promise<Run> {
  const state = takeStateDir(stateDir, { url: "a test" }, false);
  const path = bundle ?? inject("bundle");
  const runtime = await startRuntime({
    bundle: { path, text: await readFile(path, "utf8") },
    host: "127.0.0.1",
    port,
    stateDir,
    secrets: await loadSecrets(stateDir),
    vars,
  });
  const stop = async () => {
    await runtime.stop();
    state.release();
  };
  return { port: runtime.port, mf: runtime.mf, stop, kill9: cannotKill };
}

function cannotKill(): Promise<void> {
  return Promise.reject(new Error("kill9 needs `child: true`"));
}

async function startChild(stateDir: string, port: number, { vars = {}, bundle }: PorticoOptions): Promise<Run> {
  const { child, port: own } = await startDoorProcess(stateDir, port, bundle ?? inject("bundle"), vars);
  const end = async (signal: NodeJS.Signals) => {
    const below = descendantsOf(child.pid ?? 0);
    const gone = once(child, "exit");
    child.kill(signal);
    await gone;
    for (const pid of below) {
      if (!(await ended(pid, KILLED_MS_MAX))) throw new Error(`process ${pid} outlived the runtime that started it`);
    }
  };
  return { port: own, mf: null, stop: () => end("SIGTERM"), kill9: () => end("SIGKILL") };
}
