/** The deployed Worker, except that a test can end its objects at once, as a deploy or a crash does. */
import worker, { Card as LastingCard, Pool as LastingPool, Tenant as LastingTenant } from "../../worker/index.ts";

export * from "../../worker/index.ts";

const ENDED = "ended by the test";

export class Card extends LastingCard {
  end(): void {
    this.ctx.abort(ENDED);
  }
}

export class Pool extends LastingPool {
  end(): void {
    this.ctx.abort(ENDED);
  }
}

export class Tenant extends LastingTenant {
  end(): void {
    this.ctx.abort(ENDED);
  }
}

export default worker;
