/**
 * How local mode ends: once, in order, within ENDING_MS_MAX, whatever asked for it. A second Ctrl-C ends it at once;
 * so does the limit. What is still alive then ends with this process (tether.ts).
 */
import { messageOf } from "./failure.ts";

const ENDING_MS_MAX = 4_500;
/** A terminal and npm both pass one Ctrl-C on; what comes this close together is the same one. */
const SAME_SIGNAL_MS = 500;

type Step = () => void | Promise<void>;

export class Ending {
  readonly #steps: Step[] = [];
  readonly #say: (line: string) => void;
  #begunAt: number | null = null;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  get begun(): boolean {
    return this.#begunAt !== null;
  }

  /** Later steps run first: what was started last ends first. */
  add(step: Step): void {
    this.#steps.unshift(step);
  }

  /** Ctrl-C, a polite kill, a closed terminal, and the end of the process that started this one. */
  listen(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.#asked(signal));
    if (process.connected) process.once("disconnect", () => this.#asked("SIGHUP"));
  }

  #asked(signal: string): void {
    if (this.#begunAt === null) {
      this.#say(signal === "SIGINT" ? "\nEnding (once more to end at once) ..." : "Ending ...");
      void this.run(0);
    } else if (Date.now() - this.#begunAt > SAME_SIGNAL_MS) {
      process.exit(130);
    }
  }

  /** Ends this process with the code; what was asked first counts. */
  async run(code: number): Promise<void> {
    if (this.#begunAt !== null) return;
    this.#begunAt = Date.now();
    setTimeout(() => process.exit(code), ENDING_MS_MAX);
    for (const step of this.#steps) {
      try {
        await step();
      } catch (error) {
        this.#say(`While ending: ${messageOf(error)}`);
      }
    }
    process.exit(code);
  }
}
