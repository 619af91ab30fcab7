/**
 * Shutdown of local mode: once, in order, within ENDING_MS_MAX, whatever triggered it. A second Ctrl-C, or the time
 * limit, exits at once. Child processes that are still alive then end with this process (tether.ts).
 */
import { messageOf } from "./failure.ts";

const ENDING_MS_MAX = 4_500;
/** A terminal and npm both forward the same Ctrl-C; signals this close together count as one. */
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

  /** Steps run in reverse order: what was started last ends first. */
  add(step: Step): void {
    this.#steps.unshift(step);
  }

  /** Listens for Ctrl-C, SIGTERM, a closed terminal, and the end of the parent process. */
  listen(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.#asked(signal));
    if (process.connected) process.once("disconnect", () => this.#asked("SIGHUP"));
  }

  #asked(signal: string): void {
    if (this.#begunAt === null) {
      this.#say(signal === "SIGINT" ? "\nStopping (press Ctrl-C again to stop at once) ..." : "Stopping ...");
      void this.run(0);
    } else if (Date.now() - this.#begunAt > SAME_SIGNAL_MS) {
      process.exit(130);
    }
  }

  /** Ends this process with the exit code; the first call decides the code. */
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
