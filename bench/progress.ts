/** Progress output: one line per case, with the elapsed and the estimated total time. */
export class Progress {
  readonly #begunAt = performance.now();
  readonly #seconds: number;
  #what = "";

  constructor(seconds: number) {
    this.#seconds = seconds;
    console.log(`About ${minutes(seconds)}.`);
  }

  begin(what: string): void {
    this.#what = what;
    if (process.stdout.isTTY) process.stdout.write(`${this.#clock()}  ${what} ...`);
  }

  end(outcome: string): void {
    if (process.stdout.isTTY) process.stdout.write("\r\x1b[K");
    console.log(`${this.#clock()}  ${this.#what}: ${outcome}`);
  }

  #clock(): string {
    const gone = (performance.now() - this.#begunAt) / 1000;
    return `[${minutes(gone)} of ${minutes(Math.max(gone, this.#seconds))}]`;
  }
}

function minutes(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
}
