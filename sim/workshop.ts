/**
 * The workshop: two worker threads that draw and speak for all cards, so that the cards' timers in the main thread stay
 * accurate. Recent results are cached, because load tests ask for the same things again.
 */
import { createHash } from "node:crypto";
import { Worker } from "node:worker_threads";
import type { Sketch } from "./picture.ts";

const THREADS = 2;
const WAITING_MAX = 10_000;
const KEPT_BYTES_MAX = 96 * 1024 * 1024;

export interface PictureJob {
  readonly kind: "picture";
  readonly sketch: Omit<Sketch, "under">;
  /** The `parameters` text of the PNG; null for a preview. */
  readonly parameters: string | null;
  /** An image file to start from, and how much of it stays visible. */
  readonly init?: { readonly file: Uint8Array; readonly share: number };
}
export interface SpeechJob {
  readonly kind: "speech";
  readonly text: string;
  readonly voice: string;
  readonly speed: number;
}
export type Job = PictureJob | SpeechJob;
export type Made = { readonly bytes: Uint8Array<ArrayBuffer> } | { readonly error: string };

interface Task {
  readonly job: Job;
  readonly key: string;
  readonly resolve: (bytes: Buffer) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  task: Task | null;
}

export class Workshop {
  #threads: Thread[] = [];
  #waiting: Task[] = [];
  #kept = new Map<string, Buffer>();
  #keptBytes = 0;
  #closed = false;

  /** Makes a PNG or raw samples. A job that is still queued when `signal` is aborted is dropped. */
  make(job: Job, signal?: AbortSignal): Promise<Buffer> {
    const key = keyOf(job);
    const kept = this.#kept.get(key);
    if (kept) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return Promise.resolve(kept);
    }
    if (this.#closed) return Promise.reject(new Error("the workshop is closed"));
    if (this.#waiting.length >= WAITING_MAX) return Promise.reject(new Error("too much waits to be drawn"));
    return new Promise((resolve, reject) => {
      const task: Task = { job, key, resolve, reject };
      this.#waiting.push(task);
      signal?.addEventListener("abort", () => this.#drop(task), { once: true });
      this.#next();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const threads = this.#threads;
    this.#threads = [];
    for (const task of [...this.#waiting, ...threads.flatMap((thread) => thread.task ?? [])])
      task.reject(new Error("the workshop is closed"));
    this.#waiting = [];
    await Promise.all(threads.map((thread) => thread.worker.terminate()));
  }

  #drop(task: Task): void {
    const at = this.#waiting.indexOf(task);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    task.reject(new Error("nobody waits for it any more"));
  }

  #next(): void {
    if (this.#waiting.length === 0 || this.#closed) return;
    const thread =
      this.#threads.find(({ task }) => task === null) ?? (this.#threads.length < THREADS ? this.#hire() : null);
    const task = thread && this.#waiting.shift();
    if (!thread || !task) return;
    thread.task = task;
    thread.worker.postMessage(task.job, []);
  }

  #hire(): Thread {
    const worker = new Worker(new URL("./workshop-thread.ts", import.meta.url), { execArgv: [] });
    const thread: Thread = { worker, task: null };
    worker.unref();
    worker.on("message", (made: Made) => this.#finish(thread, made));
    worker.on("error", (error: Error) => this.#dismiss(thread, error));
    worker.on("exit", () => this.#dismiss(thread, new Error("a workshop thread ended")));
    this.#threads.push(thread);
    return thread;
  }

  #finish(thread: Thread, made: Made): void {
    const task = thread.task;
    thread.task = null;
    if (task && "bytes" in made) {
      const bytes = Buffer.from(made.bytes.buffer, made.bytes.byteOffset, made.bytes.byteLength);
      this.#keep(task.key, bytes);
      task.resolve(bytes);
    } else if (task && "error" in made) task.reject(new Error(made.error));
    this.#next();
  }

  /** A thread that failed rejects its task; the next task starts a new thread. */
  #dismiss(thread: Thread, error: Error): void {
    this.#threads = this.#threads.filter((other) => other !== thread);
    thread.task?.reject(error);
    thread.task = null;
    this.#next();
  }

  #keep(key: string, bytes: Buffer): void {
    if (bytes.length > KEPT_BYTES_MAX / 4) return;
    this.#keptBytes += bytes.length - (this.#kept.get(key)?.length ?? 0);
    this.#kept.set(key, bytes);
    for (const [oldest, { length }] of this.#kept) {
      if (this.#keptBytes <= KEPT_BYTES_MAX) break;
      this.#kept.delete(oldest);
      this.#keptBytes -= length;
    }
  }
}

function keyOf(job: Job): string {
  const sum = createHash("sha1");
  if (job.kind === "picture" && job.init) {
    const { init, ...rest } = job;
    return sum
      .update(JSON.stringify([rest, init.share]))
      .update(init.file)
      .digest("base64");
  }
  return sum.update(JSON.stringify(job)).digest("base64");
}
