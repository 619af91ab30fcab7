/**
 * How many requests of a tenant come from each client address, in line or on a card. Pure.
 *
 * A request is named by its ticket, by the slot that it holds, and by those that drain after it: however often, it
 * counts once, from its first name to its last. Only those that say their address are counted.
 */

/** A request, as whoever names it knows it. */
export interface Named {
  request: string;
  tenant: string;
  address?: string;
}

export class Addresses {
  /** How often each request is named, by its tenant and address. */
  readonly #requests = new Map<string, Map<string, number>>();

  countOf({ tenant, address }: Omit<Named, "request">): number {
    return this.#requests.get(`${tenant} ${address}`)?.size ?? 0;
  }

  add({ request, tenant, address }: Named): void {
    if (address === undefined) return;
    const key = `${tenant} ${address}`;
    const named = this.#requests.get(key) ?? new Map<string, number>();
    this.#requests.set(key, named.set(request, (named.get(request) ?? 0) + 1));
  }

  /** Takes one name back. */
  remove({ request, tenant, address }: Named): void {
    const key = `${tenant} ${address}`;
    const named = this.#requests.get(key);
    const count = named?.get(request);
    if (named === undefined || count === undefined) return;
    if (count > 1) named.set(request, count - 1);
    else named.delete(request);
    if (named.size === 0) this.#requests.delete(key);
  }
}
