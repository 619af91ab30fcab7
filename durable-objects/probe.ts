/** Asks origins how many requests they are running, at the path and JSON pointer that the service configures. */
import { type AccessToken, addAccess, type Listing } from "./card-protocol.ts";
import { at } from "./json-pointer.ts";

/** Pause between probes while slots drain. */
const PROBE_EVERY_MS = 1_000;
/** Timeout of a probe. */
const PROBE_MS_MAX = 3_000;
/** Largest probe response that is read. */
const PROBE_BYTES_MAX = 256 * 1024;

/** Polls the origins of services that have draining slots and a probe, and reports the counts. */
export class Prober {
  readonly #access: AccessToken | null;
  readonly #draining: () => Listing[];
  readonly #heard: (running: number, service: string) => void;
  #running = false;

  constructor(
    access: AccessToken | null,
    draining: () => Listing[],
    heard: (running: number, service: string) => void,
  ) {
    this.#access = access;
    this.#draining = draining;
    this.#heard = heard;
  }

  /** Ends by itself, because every draining slot ends within its service's `drain.max_s`. */
  async run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    try {
      for (;;) {
        const listings = this.#draining().filter((listing) => listing.drain.probe !== null);
        if (listings.length === 0) return;
        await scheduler.wait(PROBE_EVERY_MS);
        for (const listing of listings) {
          const running = await countRunning(listing, this.#access);
          if (running !== null) this.#heard(running, listing.service);
        }
      }
    } finally {
      this.#running = false;
    }
  }
}

/** Returns the count, or null if the origin gave none. */
async function countRunning(listing: Listing, access: AccessToken | null): Promise<number | null> {
  const { probe } = listing.drain;
  if (probe === null) return null;
  const headers = new Headers({ accept: "application/json" });
  addAccess(headers, listing.transport, access);
  try {
    const url = listing.origin.replace(/\/+$/, "") + probe.path;
    const answer = await fetch(url, { headers, redirect: "manual", signal: AbortSignal.timeout(PROBE_MS_MAX) });
    if (!answer.ok || Number(answer.headers.get("content-length") ?? 0) > PROBE_BYTES_MAX) {
      await answer.body?.cancel();
      return null;
    }
    return pointed(JSON.parse(await readText(answer)), probe.busy);
  } catch {
    // A failed probe reports nothing; draining then ends by time.
    return null;
  }
}

async function readText(answer: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > PROBE_BYTES_MAX) throw new RangeError("probe answer too long");
    text += decoder.decode(chunk, { stream: true });
  }
  return text;
}

/** The number, or the length of the array, at a JSON pointer (RFC 6901), or null. */
function pointed(document: unknown, pointer: string): number | null {
  const value = at(document, pointer);
  if (Array.isArray(value)) return value.length;
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? Math.floor(value) : null;
}
