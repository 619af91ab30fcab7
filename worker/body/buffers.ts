/**
 * The bytes that this isolate holds in buffers: an isolate has 128 MB for all its requests together, and nothing
 * but our own counting keeps them within it. A count, not a truth anybody else relies on.
 */

/** Of an isolate's 128 MB. */
const BUFFER_BYTES_MAX = 96 * 1024 * 1024;
/** What one tenant's bodies may take of it, so that they never keep everybody else's out. */
const TENANT_BYTES_MAX = 72 * 1024 * 1024;
/** Who finds no room looks again this often, at most so long. */
const LOOK_EVERY_MS = 25;
const WAIT_MS_MAX = 1_000;
/** Who has a room says so often that he is alive: his timer ends with him. */
const ALIVE_EVERY_MS = 15_000;
/** Who has not said so for this long was ended by the platform, and frees nothing any more. */
const DEAD_MS = 120_000;

let held = 0;
/** What each tenant's bodies hold; tenants that hold nothing are left out. */
const heldBy = new Map<string, number>();
/** Rooms that hold something; those come first that were not heard of for longest. */
const holding = new Set<Room>();

/** A share of the buffers; freed once, however often `free` is called. */
export class Room {
  #bytes = 0;
  readonly #gone: AbortSignal | null;
  readonly #tenant: string | null;
  #stays = false;
  #aliveAt = 0;
  #timer: ReturnType<typeof setInterval> | null = null;

  /**
   * `gone`: aborted when the caller goes, who takes along whatever code would have freed it. `tenant`: whose body it
   * is for; null for what is ours.
   */
  constructor(gone: AbortSignal | null = null, tenant: string | null = null) {
    this.#gone = gone;
    this.#tenant = tenant;
    gone?.addEventListener("abort", () => this.#leave(), { once: true });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** When its holder was known to be alive, ms of the epoch. */
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

  /** Grows to `bytes`, waiting a moment for others to finish. */
  async growSoon(bytes: number): Promise<boolean> {
    for (let waited = 0; !this.grow(bytes); waited += LOOK_EVERY_MS) {
      if (waited >= WAIT_MS_MAX) return false;
      await scheduler.wait(LOOK_EVERY_MS);
    }
    return true;
  }

  /** Gives back what is beyond `bytes`. */
  shrink(bytes: number): void {
    if (bytes >= this.#bytes) return;
    this.#hold(bytes);
  }

  free(): void {
    this.shrink(0);
  }

  /** From now on somebody frees it whether or not the caller goes. */
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

/** Rooms of those whom the platform ended, and no `finally` of theirs with them. */
function freeOfDead(): void {
  const dead = Date.now() - DEAD_MS;
  for (const room of holding) {
    if (room.aliveAt > dead) break;
    room.free();
  }
}
