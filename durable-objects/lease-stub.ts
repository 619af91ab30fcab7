/** The RPC stub of a lease, given to its holder. Disposing it unreleased tells the Card that the holder vanished. */
import { RpcTarget } from "cloudflare:workers";
import type { Ending, LeaseRpc, ReleaseReply, RenewReply } from "./card-protocol.ts";

export class LeaseStub extends RpcTarget implements LeaseRpc {
  readonly #rpc: LeaseRpc & { vanish(): void };

  constructor(rights: LeaseRpc & { vanish(): void }) {
    super();
    this.#rpc = rights;
  }

  renew(): Promise<RenewReply> {
    return this.#rpc.renew();
  }

  release(ending: Ending): Promise<ReleaseReply> {
    return this.#rpc.release(ending);
  }

  [Symbol.dispose](): void {
    this.#rpc.vanish();
  }
}
