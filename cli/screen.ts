/** Draws repeatedly on a terminal's alternate screen; the previous contents come back at the end. */
import type { WriteStream } from "node:tty";

const SECOND_SCREEN = "\u{1b}[?1049h";
const FIRST_SCREEN = "\u{1b}[?1049l";
const NO_CURSOR = "\u{1b}[?25l";
const CURSOR = "\u{1b}[?25h";
/** Cut long lines at the edge instead of wrapping them. */
const NO_WRAP = "\u{1b}[?7l";
const WRAP = "\u{1b}[?7h";
const HOME = "\u{1b}[H";
const REST_OF_LINE_EMPTY = "\u{1b}[K";
const REST_EMPTY = "\u{1b}[J";

export class Screen {
  readonly #out: WriteStream;
  #left = false;

  constructor(out: WriteStream) {
    this.#out = out;
    out.write(SECOND_SCREEN + NO_CURSOR + NO_WRAP);
  }

  draw(picture: string): void {
    const lines = picture.split("\n");
    // A terminal that does not know its size reports 0.
    const room = this.#out.rows > 0 ? this.#out.rows - 1 : lines.length;
    const shown =
      lines.length <= room ? lines : [...lines.slice(0, room - 1), `... ${lines.length - room + 1} more lines`];
    this.#out.write(HOME + shown.map((line) => `${line}${REST_OF_LINE_EMPTY}\n`).join("") + REST_EMPTY);
  }

  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#out.write(WRAP + CURSOR + FIRST_SCREEN);
  }
}
