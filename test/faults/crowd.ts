/**
 * Crowds of callers over keep-alive connections: closed loop (each asks again when it is answered) and open loop (they
 * arrive at a fixed rate, independent of the answers). Uses Node's own client, because hundreds of callers must cost
 * little compared with what they measure; some hang up with a TCP reset.
 */
import { Agent, request } from "node:http";
import type { ParkCounts } from "../../sim/park.ts";
import { sleep } from "../line/caller.ts";
import type { Line, Service } from "../line/line.ts";

export interface Sample {
  user: number;
  prompt: string;
  /** On the clock of the cards, in ms of the epoch. */
  sentAt: number;
  endedAt: number;
  /** 0 if the connection failed. */
  status: number;
  retryAfter: string | null;
  /** The caller hung up at `endedAt`. */
  left: boolean;
  text: string;
}

export interface Crowd {
  line: Line;
  service: Service;
  key: string;
  windowMs: number;
  /** Excluded from samples and counts. */
  warmUpMs?: number;
  /** The share of callers that hang up, and when. */
  leave?: { share: number; afterMs: number };
  /** Merged into the body. */
  body?: (user: number, turn: number) => object;
  /** Keeps the texts of the answers. */
  texts?: boolean;
}

export interface Seen {
  samples: Sample[];
  /** The cards' counts within the window. */
  counts: ParkCounts;
  /** Runs beyond a card's slots, from the start of the warm-up to the end of the window. */
  over: number;
  windowMs: number;
}

const now = () => performance.timeOrigin + performance.now();
let crowds = 0;

/** Closed loop: users that ask again as soon as they are answered. Returns what happened within the window. */
export async function closed({ users, ...crowd }: Crowd & { users: number }): Promise<Seen> {
  return inWindow(crowd, async (ask, until) => {
    const user = async (id: number): Promise<void> => {
      for (let turn = 0; now() < until; turn++) {
        const { status } = await ask(id, turn);
        // A door that is down must not be flooded.
        if (status === 0) await sleep(50);
      }
    };
    await Promise.all(Array.from({ length: users }, (_, id) => user(id)));
  });
}

/** Open loop: `perSecond` callers a second. */
export async function open({ perSecond, ...crowd }: Crowd & { perSecond: number }): Promise<Seen> {
  return inWindow(crowd, async (ask, until) => {
    const from = now();
    const asked: Promise<Sample>[] = [];
    for (let i = 0; now() < until; i++) {
      await sleep(Math.max(0, from + (i * 1000) / perSecond - now()));
      asked.push(ask(i, 0));
    }
    await Promise.all(asked);
  });
}

type Ask = (user: number, turn: number) => Promise<Sample>;

async function inWindow(crowd: Crowd, run: (ask: Ask, until: number) => Promise<void>): Promise<Seen> {
  const { line, windowMs, warmUpMs = 1_000 } = crowd;
  const agent = new Agent({ keepAlive: true });
  const name = `crowd ${(crowds += 1)}`;
  const from = now() + warmUpMs;
  const until = from + windowMs;
  const samples: Sample[] = [];
  const ask: Ask = async (user, turn) => {
    const sample = await send(crowd, agent, user, turn, `${name} user ${user} turn ${turn}`);
    samples.push(sample);
    return sample;
  };
  let counts = line.park.counts();
  let over = 0;
  const window = async (): Promise<void> => {
    await sleep(warmUpMs);
    over = line.park.counts().over;
    line.park.reset();
    await sleep(windowMs);
    counts = line.park.counts();
  };
  await Promise.all([run(ask, until), window()]);
  agent.destroy();
  const within = samples.filter(({ endedAt }) => endedAt >= from && endedAt <= until);
  return { samples: within, counts, over: over + counts.over, windowMs };
}

type Call = Pick<Crowd, "line" | "service" | "key" | "leave" | "body" | "texts">;

/** Sends one request and waits as long as it takes; without an agent, on its own connection. */
export function send(
  crowd: Call,
  agent: Agent | undefined,
  user: number,
  turn: number,
  prompt: string,
): Promise<Sample> {
  const { line, service, key, leave } = crowd;
  const sentAt = now();
  const leaves = leave !== undefined && (user + turn) % 10 < leave.share * 10;
  const payload = JSON.stringify({ prompt, width: 32, height: 32, steps: 1, ...crowd.body?.(user, turn) });
  const headers = {
    authorization: `Bearer ${key}`,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(payload),
  };
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | null = null;
    const told = (status: number, retryAfter: string | null, text: string, left = false): void => {
      if (timer !== null) clearTimeout(timer);
      resolve({ user, prompt, sentAt, endedAt: now(), status, retryAfter, left, text });
    };
    const call = request(
      line.portico.url + service.path,
      { method: "POST", ...(agent === undefined ? { agent: false } : { agent }), headers },
      (answer) => {
        const parts: Buffer[] = [];
        const retryAfter = answer.headers["retry-after"] ?? null;
        answer.on("data", (part: Buffer) => crowd.texts === true && parts.push(part));
        answer.on("error", () => told(0, null, "cut"));
        answer.on("end", () => told(answer.statusCode ?? 0, retryAfter, Buffer.concat(parts).toString()));
      },
    );
    call.on("error", (error) => told(0, null, error.message));
    call.end(payload);
    if (!leaves) return;
    timer = setTimeout(() => {
      told(0, null, "left", true);
      call.socket?.resetAndDestroy();
    }, leave.afterMs);
  });
}

/** Samples with a good answer. */
export const good = ({ samples }: Seen) => samples.filter(({ status }) => status === 200);

/** Samples that are neither good nor given up by their caller. */
export const errors = ({ samples }: Seen) => samples.filter(({ status, left }) => status !== 200 && !left);

/** How long good answers took, in ms. */
export const times = (seen: Seen) => good(seen).map(({ sentAt, endedAt }) => endedAt - sentAt);

/** Mean time that a card worked on a request, in seconds. */
export const meanS = ({ counts }: Seen) => counts.busy_ms / counts.starts / 1000;

/** Share of the slots' time that these cards worked; 1 means that no slot was ever idle. */
export function busyShare({ counts, windowMs }: Seen, cards = Object.keys(counts.cards), slots = 2): number {
  const busyMs = cards.reduce((sum, card) => sum + (counts.cards[card]?.busy_ms ?? 0), 0);
  return busyMs / (windowMs * slots * cards.length);
}

/** Good answers as a share of what `slots` slots can give at the mean run time. */
export function limitShare(seen: Seen, slots = 12): number {
  return (good(seen).length * meanS(seen)) / (slots * (seen.windowMs / 1000));
}

/** The value below which a share of the values lies. */
export function p(share: number, values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** Jain's fairness index: 1 when all values are equal. */
export function jain(values: number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  return sum ** 2 / (values.length * values.reduce((a, b) => a + b * b, 0));
}

/** Each status with its count. */
export function statuses(samples: Sample[]): string {
  const counted = new Map<number, number>();
  for (const { status } of samples) counted.set(status, (counted.get(status) ?? 0) + 1);
  return [...counted].map(([status, count]) => `${count} x ${status}`).join(", ") || "none";
}
