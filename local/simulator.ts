/** The simulated GPU cards: a child process that ends with this one, because its standard input closes. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { ROOT } from "./root.ts";
import { messageOf } from "./failure.ts";

const READY_MS_MAX = 20_000;
const STOP_MS_MAX = 2_000;
const TOLD_LINES_MAX = 10;
const CONTROL_MS_MAX = 5_000;

export interface SimulatedCard {
  card: string;
  server: string;
  gpu: number;
  origin: string;
}

export interface Simulator {
  control: string;
  cards: SimulatedCard[];
  stop(): Promise<void>;
}

/** `onEnd` is called when the cards end without having been stopped; `args` are passed to sim/main.ts. */
export async function startSimulator(onEnd: (why: string) => void, args: string[] = []): Promise<Simulator> {
  const command = [join(ROOT, "sim/main.ts"), ...args];
  const child = spawn(process.execPath, command, { cwd: ROOT, stdio: ["pipe", "pipe", "pipe"] });
  let stopping = false;
  const said: string[] = [];
  child.stderr.on("data", (chunk: Buffer) => {
    said.push(...String(chunk).trimEnd().split("\n"));
    said.splice(0, said.length - TOLD_LINES_MAX);
  });
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve([`ended with ${signal ?? `exit code ${code}`}`, ...said].join("\n  ")));
  });
  const stop = async () => {
    stopping = true;
    child.kill("SIGTERM");
    const limit = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    await ended;
    clearTimeout(limit);
  };
  try {
    const { control, cards } = await readReady(createInterface({ input: child.stdout }), ended);
    // Keep reading: a full pipe would block the cards at their next line.
    child.stdout.resume();
    void ended.then((why) => {
      if (!stopping) onEnd(why);
    });
    return { control, cards, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function readReady(
  lines: AsyncIterable<string>,
  ended: Promise<string>,
): Promise<{ control: string; cards: SimulatedCard[] }> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`said nothing within ${READY_MS_MAX / 1000} s`)), READY_MS_MAX);
  });
  const first = (async () => {
    for await (const line of lines) return line;
    throw new Error(await ended);
  })();
  try {
    const ready: { control: string; cards: SimulatedCard[] } = JSON.parse(await Promise.race([first, limit]));
    return ready;
  } catch (error) {
    throw new Error(`the simulated cards did not start: ${messageOf(error)}`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

/** Makes every card send heartbeats to the front door, each with its own token. */
export async function sendHeartbeats({ control }: Simulator, url: string, tokens: Map<string, string>): Promise<void> {
  const answer = await fetch(`${control}/heartbeats`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ url, tokens: Object.fromEntries(tokens) }),
    signal: AbortSignal.timeout(CONTROL_MS_MAX),
  });
  if (!answer.ok) throw new Error(`the simulated cards send no heartbeats: ${answer.status} ${await answer.text()}`);
}
