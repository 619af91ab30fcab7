/** The RPC stub of a lease, given to its holder. Disposing it unreleased tells the Card that the holder vanished. */
import { RpcTarget } from "cloudflare:workers";
import type { Ending, LeaseRpc, ReleaseReply, RenewReply } from "./card-protocol.ts";

export class LeaseStub extends RpcTarget implements LeaseRpc {
  readonly #rights: LeaseRpc & { vanish(): void };

  constructor(rights: LeaseRpc & { vanish(): void }) {
    super();
    this.#rights = rights;
  }

  renew(): Promise<RenewReply> {
    return this.#rights.renew();
  }

  release(ending: Ending): Promise<ReleaseReply> {
    return this.#rights.release(ending);
  }

  [Symbol.dispose](): void {
    this.#rights.vanish();
  }
}
