/** Callers on their own sockets that can hang up, and helpers to describe their answers. */
import type { Answer, Head, RawCall } from "../support/raw.ts";

/** Generous: a loaded machine may be slow, but never wrong. */
const EVENTUALLY_MS_MAX = 15_000;
const POLL_MS = 20;

/** A caller on its own socket, whose request is sent. */
export class Caller {
  readonly prompt: string;
  readonly answered: Promise<Answer>;
  readonly #call: RawCall;

  constructor(prompt: string, call: RawCall) {
    this.prompt = prompt;
    this.#call = call;
    this.answered = call.answer();
    // A caller that hangs up gets no answer, and then nobody awaits it.
    this.answered.catch(() => {});
  }

  head(): Promise<Head> {
    return this.#call.head();
  }

  /** Hangs up like a client that dies: the runtime notices a TCP reset at once. */
  hangUp(): void {
    this.#call.reset();
  }

  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }
}

/** Waits until the condition holds; how fast is not the point. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs = EVENTUALLY_MS_MAX,
): Promise<void> {
  for (const until = performance.now() + limitMs; performance.now() < until; await sleep(POLL_MS)) {
    if (await holds()) return;
  }
  throw new Error(`not within ${limitMs} ms: ${what}`);
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** A refusal in one line: status and reason. */
export function refusal(answer: Answer): string {
  const { error }: { error?: { reason?: string } } = JSON.parse(answer.text);
  return `${answer.status} ${error?.reason}`;
}

/** The number of answers of each status. */
export function tally(answers: Answer[]): Record<string, number> {
  const tallied: Record<string, number> = {};
  for (const { status } of answers) tallied[status] = (tallied[status] ?? 0) + 1;
  return tallied;
}
