/**
 * Writes the Worker's log to a file of bounded size: it is rotated once, so at most twice LOG_BYTES_MAX. Also shows a
 * bounded number of warnings and errors on the terminal.
 */
import { readable } from "./readable.ts";
import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";

const LOG_BYTES_MAX = 20 * 1024 * 1024;
/** An error loop must not flood the terminal. */
const SHOWN_MAX = 20;
const SHOWN_WINDOW_MS = 10_000;

export interface Entry {
  level: string;
  message: string;
  /** ms since the epoch. */
  timestamp: number;
}

export class LogFile {
  readonly #path: string;
  readonly #show: (line: string) => void;
  readonly #bytesMax: number;
  #fd: number;
  #bytes: number;
  #window = { from: 0, shown: 0 };

  constructor(path: string, show: (line: string) => void, bytesMax = LOG_BYTES_MAX) {
    this.#path = path;
    this.#show = show;
    this.#bytesMax = bytesMax;
    this.#fd = openSync(path, "a", 0o600);
    this.#bytes = fstatSync(this.#fd).size;
  }

  /** Written synchronously, so that a kill loses no line. */
  write(entry: Entry): void {
    const line = Buffer.from(`${asJson(entry)}\n`);
    if (this.#bytes + line.byteLength > this.#bytesMax) this.#rotate();
    writeSync(this.#fd, line);
    this.#bytes += line.byteLength;
    if (entry.level === "warn" || entry.level === "error") this.#showSome(entry);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.#path, `${this.#path}.1`);
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#bytes = 0;
  }

  #showSome({ level, message, timestamp }: Entry): void {
    if (timestamp - this.#window.from > SHOWN_WINDOW_MS) this.#window = { from: timestamp, shown: 0 };
    this.#window.shown += 1;
    if (this.#window.shown <= SHOWN_MAX) this.#show(`${level}: ${readable(message)}`);
    if (this.#window.shown === SHOWN_MAX) this.#show(`more of them in ${this.#path}`);
  }
}

/** The Worker's own lines are JSON already. Everything else is converted, so that the whole file is JSON lines. */
function asJson({ level, message, timestamp }: Entry): string {
  if (message.startsWith("{") && !message.includes("\n")) return message;
  return JSON.stringify({ at: new Date(timestamp).toISOString(), level, message });
}
