/** The read timeout of an origin call. */

/** Aborts the call when no byte arrives for too long; every byte restarts the timer. */
export class ReadTimeout {
  readonly #ms: number;
  readonly #controller: AbortController;
  #timer: ReturnType<typeof setTimeout> | null = null;
  expired = false;

  constructor(ms: number, controller: AbortController) {
    this.#ms = ms;
    this.#controller = controller;
    this.reset();
  }

  /** Restarts the timer, with `ms` if that is shorter than the usual limit. */
  reset(ms: number = this.#ms): void {
    this.stop();
    const lapse = (): void => {
      this.expired = true;
      this.#controller.abort(new Error("read timeout"));
    };
    this.#timer = setTimeout(lapse, Math.min(ms, this.#ms));
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
