/**
 * The front door on this machine: the deployed bundle on the deployed runtime, with D1, R2 and Durable Objects on disk
 * under STATE_DIR/state. It uses Miniflare directly rather than `wrangler dev`, which hides hang-ups. The runtime ends
 * with this process, kill -9 included, and restarts after a crash.
 */
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { unstable_getMiniflareWorkerOptions } from "wrangler";
import type { Bundle } from "./build.ts";
import { LogFile } from "./log.ts";
import { migrate } from "./migrate.ts";
import { urlOf } from "./options.ts";
import { ROOT } from "./root.ts";
import type { Secrets } from "./secrets.ts";
import { makeTether, type Tether } from "./tether.ts";

/** Disposing waits for open responses; an orderly shutdown must fit into the 5 s that Ctrl-C may take. */
const STOP_MS_MAX = 3_000;

export interface RuntimeOptions {
  bundle: Pick<Bundle, "path" | "text">;
  host: string;
  /** 0 picks a free port. */
  port: number;
  stateDir: string;
  secrets: Secrets;
  publicUrl?: string | undefined;
  /** Additional variables for the Worker. */
  vars?: Record<string, string>;
  /** Receives the Worker's warnings and errors. */
  say?: (line: string) => void;
  /** Called when the runtime has crashed and was restarted. */
  onCrash?: () => void;
}

export interface Runtime {
  url: string;
  port: number;
  mf: Miniflare;
  /** Names of the migrations that this start applied. */
  migrated: string[];
  stop(): Promise<void>;
}

export async function startRuntime(options: RuntimeOptions): Promise<Runtime> {
  const own = join(options.stateDir, "tmp");
  mkdirSync(own, { recursive: true });
  const log = new LogFile(join(options.stateDir, "portico.log"), options.say ?? (() => {}));
  const tether = makeTether(own);
  let stopping = false;
  let mf: Miniflare | undefined;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    if (mf !== undefined) await within(STOP_MS_MAX, mf.dispose());
    tether?.cut();
    log.close();
  };
  try {
    mf = inOwnFolder(own, () => new Miniflare(miniflareOptions(options, tether, log, () => stopping)));
    await mf.ready;
    const port = Number((await mf.unsafeGetDirectURL()).port);
    const migrated = await migrate(await mf.getD1Database("DB"), join(ROOT, "migrations"));
    return { url: urlOf(options.host, port), port, mf, migrated, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function miniflareOptions(options: RuntimeOptions, tether: Tether | null, log: LogFile, stopped: () => boolean) {
  const { workerOptions } = unstable_getMiniflareWorkerOptions(join(ROOT, "wrangler.toml"));
  const variables: Record<string, string> = { ...options.vars, ...options.secrets, LOCAL_MODE: "true" };
  if (options.publicUrl !== undefined) variables["PUBLIC_URL"] = options.publicUrl;
  const { bindings, modulesRules: _bundled, ...worker } = workerOptions;
  const converted = convertV4MiniflareOptions({
    ...worker,
    bindings: Object.assign({}, bindings, variables),
    // Webhook addresses are resolved and dialed through this service, which refuses private addresses whatever a name
    // resolves to.
    serviceBindings: { OUTSIDE: { network: { allow: ["public"], tlsOptions: { trustBrowserCas: true } } } },
    modules: [{ type: "ESModule", path: options.bundle.path, contents: options.bundle.text }],
    modulesRoot: dirname(options.bundle.path),
    // Connects straight to the Worker: Miniflare's entry worker would rewrite paths before the Worker could refuse
    // them.
    unsafeDirectSockets: [{ host: options.host, port: options.port }],
    host: "127.0.0.1",
    port: 0,
    logRequests: false,
    // Otherwise Miniflare fetches a description of this machine's location from the network.
    cf: false,
    handleStructuredLogs: (entry) => {
      if (!stopped()) log.write(entry);
    },
    handleUncaughtError: (error) => {
      if (!stopped()) log.write({ level: "error", message: error.stack ?? error.message, timestamp: Date.now() });
    },
    unsafeHandleRuntimeRestart: () => options.onCrash?.(),
    unsafeRuntimeEnv: tether === null ? {} : tiedWorkerd(tether),
  });
  // The folder that `wrangler --persist-to STATE_DIR/state` uses.
  return { ...converted, resourcePersistencePath: join(options.stateDir, "state", "v3") };
}

/** Makes Miniflare start its own workerd through the tether. */
function tiedWorkerd(tether: Tether): Record<string, string> {
  const ofMiniflare = createRequire(createRequire(import.meta.url).resolve("miniflare"));
  const found: { default: string } = ofMiniflare("workerd");
  // Miniflare reads this at every start of workerd, so it must stay set.
  process.env["MINIFLARE_WORKERD_PATH"] = tether.command;
  return { ...tether.env, TETHERED: found.default };
}

/**
 * Makes Miniflare use STATE_DIR/tmp, which the next start clears, instead of the system's temporary folder, which
 * Miniflare cleans up only on an orderly end. Also removes Miniflare's signal handlers, which would end the process at
 * the first signal.
 */
function inOwnFolder(own: string, make: () => Miniflare): Miniflare {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const before = signals.map((signal) => new Set<unknown>(process.listeners(signal)));
  const systems = process.env["TMPDIR"];
  process.env["TMPDIR"] = own;
  try {
    return make();
  } finally {
    if (systems === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = systems;
    for (const [i, signal] of signals.entries()) {
      for (const listener of process.listeners(signal)) {
        if (!before[i]?.has(listener)) process.removeListener(signal, listener);
      }
    }
  }
}

/** Resolves when the work is done or at the limit; what is left then ends with the tether. */
async function within(limitMs: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  await Promise.race([work, limit]);
  clearTimeout(timer);
}
