/** What a measurement runs against: the simulated cards and the front door, each in a process of its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Admin } from "../local/admin.ts";
import { bundle } from "../local/build.ts";
import { ROOT } from "../local/root.ts";
import { loadSecrets } from "../local/secrets.ts";

const READY_MS_MAX = 60_000;

export interface Stand {
  url: string;
  key: string;
  control: string;
  cards: { card: string; origin: string; server: string; gpu: number }[];
  admin: Admin;
  stop(): Promise<void>;
}

export interface StandOptions {
  /** Mean time that a card works on a request, ms, and its spread as a share. */
  serviceMs: number;
  jitter: number;
  servers?: number;
  gpus?: number;
}

export async function startStand({ serviceMs, jitter, servers = 3, gpus = 2 }: StandOptions): Promise<Stand> {
  const stateDir = await mkdtemp(join(tmpdir(), "portico-bench-"));
  const built = await bundle();
  const simulator = await child("sim/main.ts", [
    "--service-ms",
    `${serviceMs}`,
    "--jitter",
    `${jitter}`,
    "--servers",
    `${servers}`,
    "--gpus",
    `${gpus}`,
  ]);
  const door = await child("local/serve.ts", [stateDir, "0", built.path]);
  const secrets = await loadSecrets(stateDir);
  const { control, cards } = simulator.ready as Pick<Stand, "control" | "cards">;
  const { url } = door.ready as { url: string };
  const admin = new Admin(url, secrets.ADMIN_TOKEN);
  await admin.call("PUT", "/services/portrait", { kind: "image", route: "/sdapi/v1/", queue: { max: 10_000 } });
  for (const { card, origin, server, gpu } of cards) {
    await admin.call("PUT", `/services/portrait/cards/${card}`, { origin, server, gpu });
  }
  const limits = { requests_per_minute: 1_000_000, burst: 1_000_000, concurrent: 1000, waiting: 10_000 };
  const tenant = await admin.call<{ id: string }>("POST", "/tenants", { name: "bench", limits });
  const { key } = await admin.call<{ key: string }>("POST", `/tenants/${tenant.id}/keys`, {});
  const stop = async (): Promise<void> => {
    await Promise.all([simulator.stop(), door.stop()]);
    await rm(stateDir, { recursive: true, force: true });
  };
  return { url, key, control, cards, admin, stop };
}

interface Child {
  ready: unknown;
  stop(): Promise<void>;
}

/** Starts one of the project's programs and reads the line of JSON that it says when it is ready. */
async function child(main: string, args: string[]): Promise<Child> {
  const program: ChildProcess = spawn(process.execPath, [join(ROOT, main), ...args], {
    cwd: ROOT,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => program.once("close", () => resolve()));
  const stop = async (): Promise<void> => {
    program.kill("SIGTERM");
    await ended;
  };
  const limit = setTimeout(() => program.kill("SIGKILL"), READY_MS_MAX);
  for await (const line of createInterface({ input: program.stdout ?? process.stdin })) {
    if (!line.startsWith("{")) continue;
    clearTimeout(limit);
    program.stdout?.resume();
    return { ready: JSON.parse(line) as unknown, stop };
  }
  throw new Error(`${main} ended before it was ready`);
}
