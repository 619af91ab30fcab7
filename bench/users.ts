/**
 * Closed-loop users over keep-alive connections of their own: each sends, waits for the whole answer, and sends again.
 * Node's own HTTP client, one agent for all, so that the generator costs little beside what it measures.
 */
import { Agent, request } from "node:http";

/** No request of a measurement takes longer. */
const REQUEST_MS_MAX = 120_000;

export interface Sample {
  user: number;
  startedAt: number;
  ms: number;
  status: number;
  serverTiming: string;
}

export interface Load {
  url: string;
  path: string;
  headers: Record<string, string>;
  body: (user: number, turn: number) => string;
  users: number;
  /** Left out of the samples, ms. */
  warmUpMs: number;
  windowMs: number;
  /** Pause of a user between two requests, ms. */
  thinkMs?: (user: number) => number;
}

/** Every request that ended within the window. */
export async function runLoad(load: Load): Promise<Sample[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: load.users, scheduling: "fifo" });
  const from = performance.now() + load.warmUpMs;
  const until = from + load.windowMs;
  const samples: Sample[] = [];
  const user = async (id: number): Promise<void> => {
    for (let turn = 0; performance.now() < until; turn++) {
      const startedAt = performance.now();
      const { status, serverTiming } = await send(load, agent, load.body(id, turn));
      const endedAt = performance.now();
      if (endedAt >= from && endedAt <= until)
        samples.push({ user: id, startedAt, ms: endedAt - startedAt, status, serverTiming });
      if (load.thinkMs !== undefined) await new Promise((resolve) => setTimeout(resolve, load.thinkMs?.(id)));
    }
  };
  await Promise.all(Array.from({ length: load.users }, (_, id) => user(id)));
  agent.destroy();
  return samples;
}

/** One request on a connection that is kept for the next. */
export async function sendOnce(
  load: Pick<Load, "url" | "path" | "headers">,
  agent: Agent,
  body: string,
): Promise<Sample> {
  const startedAt = performance.now();
  const { status, serverTiming } = await send(load, agent, body);
  return { user: 0, startedAt, ms: performance.now() - startedAt, status, serverTiming };
}

/** Status 0 stands for a connection that failed. */
function send(
  load: Pick<Load, "url" | "path" | "headers">,
  agent: Agent,
  body: string,
): Promise<{ status: number; serverTiming: string }> {
  return new Promise((resolve) => {
    const headers = { ...load.headers, "content-length": Buffer.byteLength(body) };
    const sent = request(
      load.url + load.path,
      { method: "POST", agent, headers, timeout: REQUEST_MS_MAX },
      (answer) => {
        const serverTiming = String(answer.headers["server-timing"] ?? "");
        answer.on("error", () => resolve({ status: 0, serverTiming }));
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, serverTiming }));
        answer.resume();
      },
    );
    sent.on("timeout", () => sent.destroy(new Error("timeout")));
    sent.on("error", () => resolve({ status: 0, serverTiming: "" }));
    sent.end(body);
  });
}

/** The value below which a share of the sorted values lies. */
export function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** Jain's index of fairness: 1 when all get the same. */
export function jain(values: number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  const squares = values.reduce((a, b) => a + b * b, 0);
  return squares === 0 ? Number.NaN : (sum * sum) / (values.length * squares);
}
