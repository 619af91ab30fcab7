/** How long an origin may be silent: the one clock of a call. */

/** A timer for silence that aborts the call; every byte sets it anew. */
export class Silence {
  readonly #ms: number;
  readonly #controller: AbortController;
  #timer: ReturnType<typeof setTimeout> | null = null;
  lapsed = false;

  constructor(ms: number, controller: AbortController) {
    this.#ms = ms;
    this.#controller = controller;
    this.heard();
  }

  /** It may be silent anew, as long as it may or, if that is shorter, `ms`. */
  heard(ms: number = this.#ms): void {
    this.stop();
    const lapse = (): void => {
      this.lapsed = true;
      this.#controller.abort(new Error("silence"));
    };
    this.#timer = setTimeout(lapse, Math.min(ms, this.#ms));
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}
