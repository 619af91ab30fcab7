/**
 * Accounts for the bytes that this isolate holds in buffers. An isolate has 128 MB for all its requests together, and
 * only this accounting keeps them within it. No other state depends on these counts.
 */

/** Of an isolate's 128 MB. */
const BUFFER_BYTES_MAX = 96 * 1024 * 1024;
/** One tenant's share, so that its bodies never block everybody else's. */
const TENANT_BYTES_MAX = 72 * 1024 * 1024;
/** How often a caller without room checks again, and for how long. */
const LOOK_EVERY_MS = 25;
const WAIT_MS_MAX = 1_000;
/** Heartbeat interval of a holder. Its timer ends when the platform ends its request. */
const ALIVE_EVERY_MS = 15_000;
/** A holder without a heartbeat for this long was ended by the platform and will never free its room. */
const DEAD_MS = 120_000;

let held = 0;
/** Bytes held per tenant; tenants that hold nothing are left out. */
const heldBy = new Map<string, number>();
/** Rooms that hold something, oldest heartbeat first. */
const holding = new Set<Room>();

/** A share of the buffers. `free` is idempotent. */
export class Room {
  #bytes = 0;
  readonly #gone: AbortSignal | null;
  readonly #tenant: string | null;
  #stays = false;
  #aliveAt = 0;
  #timer: ReturnType<typeof setInterval> | null = null;

  /**
   * `gone`: aborted when the caller disconnects, which also ends the code that would have freed the room. `tenant`:
   * whose body the room is for; null for our own buffers.
   */
  constructor(gone: AbortSignal | null = null, tenant: string | null = null) {
    this.#gone = gone;
    this.#tenant = tenant;
    gone?.addEventListener("abort", () => this.#leave(), { once: true });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Time of the last heartbeat, ms since the epoch. */
  get aliveAt(): number {
    return this.#aliveAt;
  }

  /** Grows to `bytes` if there is room now. */
  grow(bytes: number): boolean {
    const more = bytes - this.#bytes;
    if (more <= 0) return true;
    if (this.#isLost) return false;
    if (!this.#fits(more)) freeOfDead();
    if (!this.#fits(more)) return false;
    this.#hold(bytes);
    return true;
  }

  /** Grows to `bytes`, waiting up to WAIT_MS_MAX for others to finish. */
  async growSoon(bytes: number): Promise<boolean> {
    for (let waited = 0; !this.grow(bytes); waited += LOOK_EVERY_MS) {
      if (waited >= WAIT_MS_MAX) return false;
      await scheduler.wait(LOOK_EVERY_MS);
    }
    return true;
  }

  /** Shrinks to `bytes`. */
  shrink(bytes: number): void {
    if (bytes >= this.#bytes) return;
    this.#hold(bytes);
  }

  free(): void {
    this.shrink(0);
  }

  /** Keeps the room when the caller disconnects; from now on its holder must free it. */
  stay(): void {
    this.#stays = true;
  }

  #fits(more: number): boolean {
    if (held + more > BUFFER_BYTES_MAX) return false;
    return this.#tenant === null || (heldBy.get(this.#tenant) ?? 0) + more <= TENANT_BYTES_MAX;
  }

  #hold(bytes: number): void {
    const more = bytes - this.#bytes;
    if (this.#bytes === 0) this.#timer = setInterval(() => this.#live(), ALIVE_EVERY_MS);
    this.#bytes = bytes;
    this.#live();
    held += more;
    if (this.#tenant === null) return;
    const own = (heldBy.get(this.#tenant) ?? 0) + more;
    if (own === 0) heldBy.delete(this.#tenant);
    else heldBy.set(this.#tenant, own);
  }

  #live(): void {
    this.#aliveAt = Date.now();
    holding.delete(this);
    if (this.#bytes > 0) holding.add(this);
    else clearInterval(this.#timer);
  }

  get #isLost(): boolean {
    return !this.#stays && this.#gone?.aborted === true;
  }

  #leave(): void {
    if (!this.#stays) this.free();
  }
}

/** Frees rooms whose requests were ended by the platform, without running their `finally`. */
function freeOfDead(): void {
  const dead = Date.now() - DEAD_MS;
  for (const room of holding) {
    if (room.aliveAt > dead) break;
    room.free();
  }
}
