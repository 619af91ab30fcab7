/**
 * Counts each tenant's requests per client address, queued or on a card. Pure.
 *
 * A request can be referenced several times at once: by its ticket, by the slot it holds, and by slots still draining
 * after earlier attempts. It counts once, from its first reference to its last. Requests without an address are
 * ignored.
 */

/** One reference to a request. */
export interface RequestRef {
  request: string;
  tenant: string;
  address?: string;
}

export class Addresses {
  /** Reference count per request, keyed by tenant and address. */
  readonly #requests = new Map<string, Map<string, number>>();

  countOf({ tenant, address }: Omit<RequestRef, "request">): number {
    return this.#requests.get(`${tenant} ${address}`)?.size ?? 0;
  }

  add({ request, tenant, address }: RequestRef): void {
    if (address === undefined) return;
    const key = `${tenant} ${address}`;
    const named = this.#requests.get(key) ?? new Map<string, number>();
    this.#requests.set(key, named.set(request, (named.get(request) ?? 0) + 1));
  }

  /** Removes one reference. */
  remove({ request, tenant, address }: RequestRef): void {
    const key = `${tenant} ${address}`;
    const named = this.#requests.get(key);
    const count = named?.get(request);
    if (named === undefined || count === undefined) return;
    if (count > 1) named.set(request, count - 1);
    else named.delete(request);
    if (named.size === 0) this.#requests.delete(key);
  }
}
