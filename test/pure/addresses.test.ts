/** Addresses counts how many requests of one client address are present, over the whole life of each request. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Addresses } from "../../durable-objects/addresses.ts";
import { SmallPool } from "./pool-in-small.ts";
import { expectThat } from "./same.ts";
import { LIMITS } from "./small-card.ts";
import { sizes, steps, accidentalSteps, play, wind, type Step } from "./small-steps.ts";

const ADDRESSES = ["here", "there"];
/** Names of the tenants in the steps. */
const TENANTS = ["tenant 0", "tenant 1", "tenant 2"];
/** Ten times a card's first ejection. */
const OUT_MS_MAX = 10 * LIMITS.failTimeoutMs;
const one = { tenant: "a", address: "here" };

test("a request counts once however often it is added, until every add has been matched by a remove", () => {
  const names = fc.array(fc.record({ request: fc.nat({ max: 3 }), tenant: fc.nat({ max: 1 }), add: fc.boolean() }), {
    maxLength: 60,
    size: "max",
  });
  const property = fc.property(names, (list) => {
    const addresses = new Addresses();
    const model = new Map<string, number>();
    for (const { request, tenant, add } of list) {
      const named = { request: `${request}`, tenant: `${tenant}`, address: "here" };
      const key = `${tenant} ${request}`;
      if (add) addresses.add(named);
      else addresses.remove(named);
      model.set(key, Math.max(0, (model.get(key) ?? 0) + (add ? 1 : -1)));
      for (const whose of ["0", "1"]) {
        const here = [...model].filter(([name, count]) => name.startsWith(whose) && count > 0).length;
        expect(addresses.countOf({ tenant: whose, address: "here" })).toBe(here);
      }
    }
  });
  fc.assert(property, { numRuns: 500 });
});

test("a request without an address is not counted, and counts are kept per address and per tenant", () => {
  const addresses = new Addresses();
  addresses.add({ request: "1", tenant: "a" });
  addresses.remove({ request: "1", tenant: "a" });
  expect(addresses.countOf({ tenant: "a" })).toBe(0);
  addresses.add({ request: "1", ...one });
  expect(addresses.countOf({ tenant: "a", address: "there" })).toBe(0);
  expect(addresses.countOf({ tenant: "b", address: "here" })).toBe(0);
});

/** A pool whose requests come from two addresses, each limited to a number of concurrent requests. */
class Street extends SmallPool {
  readonly #perAddress: number;

  constructor(size: ConstructorParameters<typeof SmallPool>[0], perAddress: number) {
    super(size);
    this.#perAddress = perAddress;
  }

  override come(name: string, tenant: string, more: Parameters<SmallPool["come"]>[2] = {}) {
    const address = ADDRESSES[this.callers.length % 2] ?? "";
    return super.come(name, tenant, { address, ...more, perAddress: this.#perAddress });
  }
}

/** Requests of a tenant from an address that hold a ticket, or a slot as far as the desk knows. */
function present({ desk }: SmallPool, tenant: string, address: string): string[] {
  const tickets = [...desk.tickets].map(({ entry }) => entry);
  const held = desk.cards.reports().flatMap((report) => report.held);
  const all = [...tickets, ...held].filter((named) => named.tenant === tenant && named.address === address);
  return [...new Set(all.map(({ request }) => request))];
}

/** Expects that exactly `most` more requests from an address are let in now. */
function expectRoomFor(pool: Street, tenant: string, address: string, most: number): void {
  const came = Array.from({ length: most + 1 }, (_, i) =>
    pool.come(`${i} of ${tenant} ${address}`, tenant, { address }),
  );
  pool.settle();
  expect(came.map(({ words }) => words.join())).toEqual([...Array.from({ length: most }, () => ""), "concurrency"]);
}

/** Tries every ejected card again, so that all are healthy and no request is refused for another reason. */
function heal(pool: Street): void {
  pool.clock.pass(OUT_MS_MAX);
  for (const card of pool.cards) {
    pool.come(`trial of ${card.name}`, TENANTS[0] ?? "");
    pool.settle();
    wind(pool);
  }
}

function playOn(pool: Street, list: Step[], most: number, look: boolean): void {
  pool.settle();
  play(pool, list, () => {
    for (const tenant of look ? TENANTS : []) {
      for (const address of ADDRESSES) {
        const here = present(pool, tenant, address);
        expectThat(here.length <= most, `${here.join()} are here from ${address}`);
      }
    }
  });
  wind(pool);
  heal(pool);
  for (const tenant of TENANTS) for (const address of ADDRESSES) expectRoomFor(pool, tenant, address, most);
}

test("an address never has more requests in line or on a card than its limit, and ended ones do not count", () => {
  const property = fc.property(sizes, fc.integer({ min: 1, max: 3 }), steps, (size, most, list) => {
    playOn(new Street(size, most), list, most, true);
  });
  fc.assert(property, { numRuns: 300 });
});

test("lost messages and restarts of the Pool leave no request counted forever", () => {
  const property = fc.property(sizes, fc.integer({ min: 1, max: 3 }), accidentalSteps, (size, most, list) => {
    playOn(new Street(size, most), list, most, false);
  });
  fc.assert(property, { numRuns: 300 });
});
